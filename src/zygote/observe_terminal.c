/* _observe.so in a worker whose caller has a terminal: tells of the program's first use of it, see
 * terminal.c. Nothing is asked of the kernel here; each function is its original otherwise.
 *
 * What does not come by here (a system call made by hand, a library linked statically) finds the
 * caller's terminal itself, which reads and writes like any other, but belongs to another session.
 */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE /* its inline functions would be the ones that are defined here */
#include "zygote/observe.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define TOLD(...)                                                                                  \
    do {                                                                                           \
        if (__builtin_expect(wf_observe_terminal != NULL, 0))                                      \
            wf_observe_terminal->__VA_ARGS__;                                                      \
    } while (0)

EXPORT const struct wf_observe_terminal *wf_observe_terminal;

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

/* RESULT NAME(PARAMETERS), which calls the original with ARGUMENTS after TELLING. Looked up at load
 * time: a child between vfork and exec must not ask the dynamic linker. */
#define WRAP(result, name, parameters, arguments, ...)                                             \
    EXPORT result name parameters;                                                                 \
    static result(*name##_next) parameters;                                                        \
    __attribute__((constructor)) static void name##_find(void) { name##_next = next(#name); }      \
    result name parameters {                                                                       \
        __VA_ARGS__;                                                                               \
        if (name##_next == NULL) /* called before all constructors have run */                     \
            name##_find();                                                                         \
        return name##_next arguments;                                                              \
    }

static void reads_stream(FILE *stream) {
    if (stream != NULL)
        TOLD(use(fileno_unlocked(stream), WF_OBSERVE_READ));
}

static void waits_poll(const struct pollfd *items, unsigned long count, int for_ever) {
    for (unsigned long i = 0; wf_observe_terminal != NULL && i < count; i++)
        if (items[i].fd >= 0 && (items[i].events & POLLIN))
            TOLD(use(items[i].fd, for_ever ? WF_OBSERVE_READ : WF_OBSERVE_LOOK));
}

static void waits_select(int count, const fd_set *set, int for_ever) {
    for (int fd = 0; wf_observe_terminal != NULL && set != NULL && fd < count; fd++)
        if (FD_ISSET(fd, set))
            TOLD(use(fd, for_ever ? WF_OBSERVE_READ : WF_OBSERVE_LOOK));
}

WRAP(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size),
     TOLD(use(fd, WF_OBSERVE_READ)))
WRAP(ssize_t, __read_chk, (int fd, void *data, size_t size, size_t room), (fd, data, size, room),
     TOLD(use(fd, WF_OBSERVE_READ)))
WRAP(ssize_t, readv, (int fd, const struct iovec *parts, int count), (fd, parts, count),
     TOLD(use(fd, WF_OBSERVE_READ)))
WRAP(char *, fgets, (char *line, int size, FILE *stream), (line, size, stream),
     reads_stream(stream))
WRAP(char *, __fgets_chk, (char *line, size_t room, int size, FILE *stream),
     (line, room, size, stream), reads_stream(stream))
WRAP(size_t, fread, (void *data, size_t size, size_t count, FILE *stream),
     (data, size, count, stream), reads_stream(stream))
WRAP(size_t, __fread_chk, (void *data, size_t room, size_t size, size_t count, FILE *stream),
     (data, room, size, count, stream), reads_stream(stream))
WRAP(int, fgetc, (FILE * stream), (stream), reads_stream(stream))
WRAP(int, getc, (FILE * stream), (stream), reads_stream(stream))
WRAP(ssize_t, getline, (char **line, size_t *size, FILE *stream), (line, size, stream),
     reads_stream(stream))
WRAP(ssize_t, getdelim, (char **line, size_t *size, int end, FILE *stream),
     (line, size, end, stream), reads_stream(stream))

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored                                                                     \
    "-Wmaybe-uninitialized" /* the headers say that poll only writes there */
WRAP(int, poll, (struct pollfd * items, nfds_t count, int timeout), (items, count, timeout),
     waits_poll(items, count, timeout < 0))
WRAP(int, __poll_chk, (struct pollfd * items, nfds_t count, int timeout, size_t room),
     (items, count, timeout, room), waits_poll(items, count, timeout < 0))
WRAP(int, ppoll,
     (struct pollfd * items, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
     (items, count, timeout, mask), waits_poll(items, count, timeout == NULL))
#pragma GCC diagnostic pop
WRAP(int, select, (int count, fd_set *in, fd_set *out, fd_set *other, struct timeval *timeout),
     (count, in, out, other, timeout), waits_select(count, in, timeout == NULL))
WRAP(int, pselect,
     (int count, fd_set *in, fd_set *out, fd_set *other, const struct timespec *timeout,
      const sigset_t *mask),
     (count, in, out, other, timeout, mask), waits_select(count, in, timeout == NULL))
WRAP(int, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event),
     (epoll, operation, fd, event), TOLD(use(fd, WF_OBSERVE_LOOK)))

WRAP(int, tcsetattr, (int fd, int when, const struct termios *modes), (fd, when, modes),
     TOLD(use(fd, WF_OBSERVE_CHANGE)))
WRAP(int, tcflush, (int fd, int queue), (fd, queue), TOLD(use(fd, WF_OBSERVE_CHANGE)))
WRAP(int, tcflow, (int fd, int action), (fd, action), TOLD(use(fd, WF_OBSERVE_CHANGE)))
WRAP(int, tcdrain, (int fd), (fd), TOLD(use(fd, WF_OBSERVE_CHANGE)))
WRAP(int, tcsendbreak, (int fd, int duration), (fd, duration), TOLD(use(fd, WF_OBSERVE_CHANGE)))
WRAP(int, tcsetpgrp, (int fd, pid_t group), (fd, group), TOLD(use(fd, WF_OBSERVE_CHANGE)))

/* Requests that another session's terminal answers as well as one's own, and those of any file. */
static int is_harmless(unsigned long request) {
    return (request & 0xff00) != 0x5400 || request == TCGETS || request == TIOCGWINSZ ||
           request == TCGETA || request == TIOCOUTQ || request == FIOCLEX || request == FIONCLEX ||
           request == FIONBIO || request == FIOASYNC;
}

static enum wf_observe_use use_of(unsigned long request) {
    return request == FIONREAD ? WF_OBSERVE_LOOK : WF_OBSERVE_CHANGE;
}

/* 1: answered; 0: told, and the original is to be called. */
static int asks(int fd, unsigned long request, void *ret) {
    if (wf_observe_terminal == NULL)
        return 0;
    if (ret != NULL && wf_observe_terminal->ask(fd, request, ret))
        return 1;
    wf_observe_terminal->use(fd, WF_OBSERVE_ASK);
    return 0;
}

WRAP(pid_t, tcgetpgrp, (int fd), (fd), pid_t group; if (asks(fd, TIOCGPGRP, &group)) return group)
WRAP(pid_t, tcgetsid, (int fd), (fd), pid_t session;
     if (asks(fd, TIOCGSID, &session)) return session)

EXPORT int ioctl(int fd, unsigned long request, ...) {
    static __typeof__(&ioctl) original;
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (request == TIOCGPGRP || request == TIOCGSID) {
        if (asks(fd, request, argument))
            return 0;
    } else if (wf_observe_terminal != NULL && !is_harmless(request))
        TOLD(use(fd, use_of(request)));
    if (original == NULL)
        original = next("ioctl");
    return original(fd, request, argument);
}

WRAP(pid_t, fork, (void), (), TOLD(process()))
WRAP(int, system, (const char *command), (command), TOLD(process()))
WRAP(FILE *, popen, (const char *command, const char *mode), (command, mode), TOLD(process()))
WRAP(int, forkpty,
     (int *master, char *name, const struct termios *modes, const struct winsize *size),
     (master, name, modes, size), TOLD(process()))
WRAP(int, posix_spawn,
     (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions,
      const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]),
     (pid, path, actions, attributes, argv, envp), TOLD(process()))
WRAP(int, posix_spawnp,
     (pid_t * pid, const char *file, const posix_spawn_file_actions_t *actions,
      const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]),
     (pid, file, actions, attributes, argv, envp), TOLD(process()))
WRAP(int, execve, (const char *path, char *const argv[], char *const envp[]), (path, argv, envp),
     TOLD(process()))
WRAP(int, execv, (const char *path, char *const argv[]), (path, argv), TOLD(process()))
WRAP(int, execvp, (const char *file, char *const argv[]), (file, argv), TOLD(process()))
WRAP(int, execvpe, (const char *file, char *const argv[], char *const envp[]), (file, argv, envp),
     TOLD(process()))
WRAP(int, fexecve, (int fd, char *const argv[], char *const envp[]), (fd, argv, envp),
     TOLD(process()))

/* A stop is ignored in a session that has no keeper yet. */
static void sends(int sig) {
    if (sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
        TOLD(process());
}

WRAP(int, kill, (pid_t pid, int sig), (pid, sig), sends(sig))
WRAP(int, killpg, (pid_t group, int sig), (group, sig), sends(sig))
WRAP(int, raise, (int sig), (sig), sends(sig))
WRAP(int, pthread_kill, (pthread_t thread, int sig), (thread, sig), sends(sig))
WRAP(int, sigqueue, (pid_t pid, int sig, const union sigval value), (pid, sig, value), sends(sig))

EXPORT int setpgid(pid_t pid, pid_t group) {
    static __typeof__(&setpgid) original;
    if (wf_observe_terminal != NULL && wf_observe_terminal->lead_group(pid, group))
        return 0;
    if (original == NULL)
        original = next("setpgid");
    return original(pid, group);
}

EXPORT int setpgrp(void) { return setpgid(0, 0); }

EXPORT pid_t setsid(void) {
    static __typeof__(&setsid) original;
    if (wf_observe_terminal != NULL && wf_observe_terminal->lead_session())
        return getpid();
    if (original == NULL)
        original = next("setsid");
    return original();
}

EXPORT void _exit(int status) {
    TOLD(exit());
    syscall(SYS_exit_group, status);
    __builtin_unreachable();
}

/* vfork returns twice to the same frame, which therefore must not be one of ours: the original is
 * jumped to with the stack as it came. */
__attribute__((used, visibility("hidden"))) void *wf_observe_vfork_next;
__attribute__((used, visibility("hidden"))) void wf_observe_vfork(void);

void wf_observe_vfork(void) {
    if (wf_observe_vfork_next == NULL)
        wf_observe_vfork_next = next("vfork");
    TOLD(process());
}

#if defined __x86_64__
__asm__(".text\n.globl vfork\n.type vfork, @function\nvfork:\n"
        "  endbr64\n"
        "  subq $8, %rsp\n"
        "  call wf_observe_vfork\n"
        "  addq $8, %rsp\n"
        "  jmp *wf_observe_vfork_next(%rip)\n"
        ".size vfork, .-vfork\n");
#elif defined __aarch64__
__asm__(".text\n.globl vfork\n.type vfork, %function\nvfork:\n"
        "  hint #34\n" /* bti c */
        "  stp x29, x30, [sp, #-16]!\n"
        "  bl wf_observe_vfork\n"
        "  ldp x29, x30, [sp], #16\n"
        "  adrp x16, wf_observe_vfork_next\n"
        "  ldr x16, [x16, #:lo12:wf_observe_vfork_next]\n"
        "  br x16\n"
        ".size vfork, .-vfork\n");
#else
/* As good, but for the time that a large process takes to copy. */
EXPORT pid_t vfork(void) { return fork(); }
#endif
