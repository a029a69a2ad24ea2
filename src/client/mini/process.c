/* Processes and signals. */
#include "client/mini/mini.h"
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* processes */

pid_t fork(void) { return (pid_t)MINI_CALL(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

int execve(const char *path, char *const argv[], char *const envp[]) {
    return (int)MINI_CALL(SYS_execve, path, argv, envp);
}

int execv(const char *path, char *const argv[]) { return execve(path, argv, environ); }

pid_t waitpid(pid_t pid, int *status, int options) {
    return (pid_t)MINI_CALL(SYS_wait4, pid, status, options, 0);
}

int waitid(idtype_t type, id_t id, siginfo_t *ret, int options) {
    return (int)MINI_CALL(SYS_waitid, type, id, ret, options, 0);
}

int kill(pid_t pid, int signal) { return (int)MINI_CALL(SYS_kill, pid, signal); }

int raise(int signal) { return (int)MINI_CALL(SYS_tgkill, getpid(), getpid(), signal); }

void abort(void) {
    sigset_t all;
    raise(SIGABRT);
    sigfillset(&all);
    sigdelset(&all, SIGABRT);
    signal(SIGABRT, SIG_DFL); /* it was caught, ignored or blocked: now it is not */
    sigprocmask(SIG_SETMASK, &all, NULL);
    raise(SIGABRT);
    for (;;)
        _exit(127);
}

/* signals: the kernel's set has 64 bits, the C library's more, of which the first 64 are the same
 */

struct kernel_action {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

#define RESTORER 0x04000000ul /* SA_RESTORER, which the C library's headers hide */

void mini_restore(void);
#if defined __x86_64__
__asm__(".text\n.type mini_restore,@function\nmini_restore:\nmov $15, %eax\nsyscall\n");
#elif defined __aarch64__
__asm__(".text\n.type mini_restore,%function\nmini_restore:\nmov x8, #139\nsvc 0\n");
#endif

int sigaction(int number, const struct sigaction *restrict new, struct sigaction *restrict old) {
    struct kernel_action from, to;
    if (new) {
        from.handler = new->sa_handler;
        from.flags = (unsigned long)new->sa_flags | RESTORER;
        from.restorer = mini_restore;
        memcpy(&from.mask, &new->sa_mask, sizeof from.mask);
    }
    if (MINI_CALL(SYS_rt_sigaction, number, new ? &from : NULL, old ? &to : NULL, 8) < 0)
        return -1;
    if (old) {
        memset(old, 0, sizeof *old);
        old->sa_handler = to.handler;
        old->sa_flags = (int)(to.flags & ~RESTORER);
        memcpy(&old->sa_mask, &to.mask, sizeof to.mask);
    }
    return 0;
}

__sighandler_t signal(int number, __sighandler_t handler) {
    struct sigaction new = { .sa_handler = handler, .sa_flags = SA_RESTART }, old;
    return sigaction(number, &new, &old) < 0 ? SIG_ERR : old.sa_handler;
}

int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
    if (old)
        sigemptyset(old);
    return (int)MINI_CALL(SYS_rt_sigprocmask, how, set, old, 8);
}

int sigsuspend(const sigset_t *mask) { return (int)MINI_CALL(SYS_rt_sigsuspend, mask, 8); }

int sigemptyset(sigset_t *set) {
    memset(set, 0, sizeof *set);
    return 0;
}

int sigfillset(sigset_t *set) {
    memset(set, 0xff, sizeof *set);
    return 0;
}

/* Bit number - 1 of the set, which both processors keep in its first eight bytes, lowest first. */
static uint64_t *bits(const sigset_t *set) { return (uint64_t *)(uintptr_t)set; }

static int refuse(int number) {
    if (number >= 1 && number <= 64)
        return 0;
    errno = EINVAL;
    return -1;
}

int sigaddset(sigset_t *set, int number) {
    if (refuse(number) < 0)
        return -1;
    *bits(set) |= 1ull << (number - 1);
    return 0;
}

int sigdelset(sigset_t *set, int number) {
    if (refuse(number) < 0)
        return -1;
    *bits(set) &= ~(1ull << (number - 1));
    return 0;
}

int sigismember(const sigset_t *set, int number) {
    return refuse(number) < 0 ? -1 : (int)(*bits(set) >> (number - 1) & 1);
}

int signalfd(int fd, const sigset_t *mask, int flags) {
    return (int)MINI_CALL(SYS_signalfd4, fd, mask, 8, flags);
}
