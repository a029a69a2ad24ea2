/* System calls that are C functions of the same name. Where arm64 has only the general form of a
 * call, that is used on both. Types are the system headers', which are the kernel's as well; what
 * is not (signal sets and actions) the client hands to the kernel by itself, through syscall(). */
#include "client/mini/mini.h"
#include <fcntl.h>
#include <linux/stat.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* One last argument of any type, as fcntl and its like take it: passed on whether or not it was
 * given. */
#define LAST_ARGUMENT(after, name)                                                                 \
    va_list after##_list;                                                                          \
    va_start(after##_list, after);                                                                 \
    long name = va_arg(after##_list, long);                                                        \
    va_end(after##_list)

/* files */

int openat(int dir, const char *path, int flags, ...) {
    LAST_ARGUMENT(flags, mode);
    return (int)MINI_CALL(SYS_openat, dir, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    LAST_ARGUMENT(flags, mode);
    return (int)MINI_CALL(SYS_openat, AT_FDCWD, path, flags, mode);
}

int close(int fd) { return (int)MINI_CALL(SYS_close, fd); }
ssize_t read(int fd, void *data, size_t size) { return MINI_CALL(SYS_read, fd, data, size); }
ssize_t write(int fd, const void *data, size_t size) {
    return MINI_CALL(SYS_write, fd, data, size);
}

int flock(int fd, int operation) { return (int)MINI_CALL(SYS_flock, fd, operation); }
int dup(int fd) { return (int)MINI_CALL(SYS_dup, fd); }
int dup3(int from, int to, int flags) { return (int)MINI_CALL(SYS_dup3, from, to, flags); }

int dup2(int from, int to) {
    if (from == to) /* which dup3 refuses */
        return fcntl(from, F_GETFD) < 0 ? -1 : to;
    return dup3(from, to, 0);
}

int pipe2(int fds[2], int flags) { return (int)MINI_CALL(SYS_pipe2, fds, flags); }

int fcntl(int fd, int command, ...) {
    LAST_ARGUMENT(command, value);
    return (int)MINI_CALL(SYS_fcntl, fd, command, value);
}

int ioctl(int fd, unsigned long request, ...) {
    LAST_ARGUMENT(request, value);
    return (int)MINI_CALL(SYS_ioctl, fd, request, value);
}

int fstatat(int dir, const char *restrict path, struct stat *restrict ret, int flags) {
    return (int)MINI_CALL(SYS_newfstatat, dir, path, ret, flags);
}

int stat(const char *restrict path, struct stat *restrict ret) {
    return fstatat(AT_FDCWD, path, ret, 0);
}

int fstat(int fd, struct stat *ret) { return (int)MINI_CALL(SYS_fstat, fd, ret); }

int faccessat(int dir, const char *path, int mode, int flags) {
    if (flags) /* the old call has no flags, the new one (faccessat2) is not everywhere */
        return (int)mini_result(-EINVAL);
    return (int)MINI_CALL(SYS_faccessat, dir, path, mode);
}

int access(const char *path, int mode) { return faccessat(AT_FDCWD, path, mode, 0); }

ssize_t readlinkat(int dir, const char *restrict path, char *restrict ret, size_t size) {
    return MINI_CALL(SYS_readlinkat, dir, path, ret, size);
}

ssize_t readlink(const char *restrict path, char *restrict ret, size_t size) {
    return readlinkat(AT_FDCWD, path, ret, size);
}

int unlinkat(int dir, const char *path, int flags) {
    return (int)MINI_CALL(SYS_unlinkat, dir, path, flags);
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return (int)MINI_CALL(SYS_renameat, from_dir, from, to_dir, to);
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int mkdirat(int dir, const char *path, mode_t mode) {
    return (int)MINI_CALL(SYS_mkdirat, dir, path, mode);
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int chmod(const char *path, mode_t mode) {
    return (int)MINI_CALL(SYS_fchmodat, AT_FDCWD, path, mode);
}

int chdir(const char *path) { return (int)MINI_CALL(SYS_chdir, path); }
mode_t umask(mode_t mask) { return (mode_t)MINI_CALL(SYS_umask, mask); }

/* memory */

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    return (void *)MINI_CALL(SYS_mmap, at, size, protection, flags, fd, offset);
}

int munmap(void *at, size_t size) { return (int)MINI_CALL(SYS_munmap, at, size); }
int memfd_create(const char *name, unsigned flags) {
    return (int)MINI_CALL(SYS_memfd_create, name, flags);
}

/* sockets; their addresses are transparent unions in the system's headers */

int socket(int family, int type, int protocol) {
    return (int)MINI_CALL(SYS_socket, family, type, protocol);
}

int connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t size) {
    return (int)MINI_CALL(SYS_connect, fd, to.__sockaddr__, size);
}

int bind(int fd, __CONST_SOCKADDR_ARG at, socklen_t size) {
    return (int)MINI_CALL(SYS_bind, fd, at.__sockaddr__, size);
}

int listen(int fd, int backlog) { return (int)MINI_CALL(SYS_listen, fd, backlog); }

ssize_t send(int fd, const void *data, size_t size, int flags) {
    return MINI_CALL(SYS_sendto, fd, data, size, flags, 0, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    return MINI_CALL(SYS_sendmsg, fd, message, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    return MINI_CALL(SYS_recvmsg, fd, message, flags);
}

int getsockopt(int fd, int level, int name, void *restrict ret, socklen_t *restrict size) {
    return (int)MINI_CALL(SYS_getsockopt, fd, level, name, ret, size);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
    return (int)MINI_CALL(SYS_setsockopt, fd, level, name, value, size);
}

struct cmsghdr *__cmsg_nxthdr(struct msghdr *message, struct cmsghdr *at) {
    size_t step = CMSG_ALIGN(at->cmsg_len);
    unsigned char *end = (unsigned char *)message->msg_control + message->msg_controllen;
    if (at->cmsg_len < sizeof *at || (size_t)(end - (unsigned char *)at) < step + sizeof *at)
        return NULL;
    struct cmsghdr *next = (struct cmsghdr *)((unsigned char *)at + step);
    return (size_t)(end - (unsigned char *)next) < next->cmsg_len ? NULL : next;
}

/* waiting and time */

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
    struct timespec
        copy; /* the kernel writes the rest of the time there, the C library's does not */
    if (timeout)
        copy = *timeout;
    return (int)MINI_CALL(SYS_ppoll, fds, count, timeout ? &copy : NULL, mask, 8);
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms) {
    struct timespec timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };
    return ppoll(fds, count, timeout_ms < 0 ? NULL : &timeout, NULL);
}

int inotify_init1(int flags) { return (int)MINI_CALL(SYS_inotify_init1, flags); }

int inotify_add_watch(int fd, const char *path, uint32_t mask) {
    return (int)MINI_CALL(SYS_inotify_add_watch, fd, path, mask);
}

int clock_gettime(clockid_t clock, struct timespec *ret) {
    return (int)MINI_CALL(SYS_clock_gettime, clock, ret);
}

/* the process */

int execve(const char *path, char *const argv[], char *const envp[]) {
    return (int)MINI_CALL(SYS_execve, path, argv, envp);
}

pid_t waitpid(pid_t pid, int *status, int options) {
    return (pid_t)MINI_CALL(SYS_wait4, pid, status, options, 0);
}

pid_t getpid(void) { return (pid_t)MINI_CALL(SYS_getpid); }
uid_t geteuid(void) { return (uid_t)MINI_CALL(SYS_geteuid); }

int getresuid(uid_t *real, uid_t *effective, uid_t *saved) {
    return (int)MINI_CALL(SYS_getresuid, real, effective, saved);
}

int getresgid(gid_t *real, gid_t *effective, gid_t *saved) {
    return (int)MINI_CALL(SYS_getresgid, real, effective, saved);
}

int getgroups(int room, gid_t ret[]) { return (int)MINI_CALL(SYS_getgroups, room, ret); }
pid_t setsid(void) { return (pid_t)MINI_CALL(SYS_setsid); }

int prctl(int option, ...) {
    va_list list;
    va_start(list, option);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long),
         d = va_arg(list, long);
    va_end(list);
    return (int)MINI_CALL(SYS_prctl, option, a, b, c, d);
}

int personality(unsigned long persona) { return (int)MINI_CALL(SYS_personality, persona); }

int prlimit(pid_t pid, __rlimit_resource_t what, const struct rlimit *new, struct rlimit *old) {
    return (int)MINI_CALL(SYS_prlimit64, pid, what, new, old);
}

int setrlimit(__rlimit_resource_t what, const struct rlimit *value) {
    return prlimit(0, what, value, NULL);
}

long syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
    long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    return MINI_CALL(number, a, b, c, d, e, f);
}
