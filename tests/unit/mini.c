/* src/client/mini against the kernel: linked with it instead of the system's C library. Exits with
 * the number of checks that failed, each told on stderr. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int failed;

static void check(bool good, const char *what) {
    if (good)
        return;
    failed++;
    if (write(2, what, strlen(what)) < 0 || write(2, " is wrong\n", 10) < 0)
        _exit(99);
}

#define CHECK(condition) check(condition, #condition)

static void strings(void) {
    char m[32] = "0123456789abcdefghijklmnop";
    CHECK(memmove(m + 3, m, 20) == m + 3 && !memcmp(m, "0120123456789abcdefghij", 23));
    memmove(m, m + 3, 20);
    CHECK(!memcmp(m, "0123456789abcdefghij", 20));
    CHECK(!memcmp(memset(m, 'x', 19), "xxxxxxxxxxxxxxxxxxx", 19) && m[19] != 'x');
    CHECK(memcmp("a\200", "a\1", 2) > 0 && memcmp("ab", "ac", 1) == 0);
    CHECK(!strcmp("abc", "abc") && strcmp("abc", "abd") < 0 && strcmp("abc", "ab") > 0);
    CHECK(!strncmp("abcd", "abce", 3) && strncmp("ab", "abc", 3) < 0);
    CHECK(!strcmp(strrchr("a/b/c", '/'), "/c") && !strrchr("abc", '/'));
    CHECK(!strchr("abc", 'x') && *strchr("abc", '\0') == '\0');
    CHECK(!memchr("abc", 'c', 2) && memchr("abc", 'c', 3));
    CHECK(strcspn("ab=c", "=,") == 2 && strspn("aab", "a") == 2 && strnlen("abc", 2) == 2);
}

static void memory(void) {
    char *p = malloc(10);
    strcpy(p, "abc");
    for (size_t size = 100; size < 10000000; size *= 7) {
        p = realloc(p, size);
        CHECK(p && !strcmp(p, "abc"));
        p[size - 1] = 'x';
    }
    free(p);
    char *kept[64];
    for (int i = 0; i < 64; i++) {
        size_t size = (size_t)(i * i * 13 + 1);
        kept[i] = calloc(1, size);
        CHECK(kept[i] && kept[i][0] == 0 && kept[i][size - 1] == 0);
        memset(kept[i], i, size);
        free(malloc(size)); /* the last block: its place is used again */
    }
    for (int i = 0; i < 64; i++)
        CHECK(kept[i][0] == i && kept[i][i * i * 13] == i);
    volatile size_t huge = (size_t)1 << 40; /* so that the compiler does not see it coming */
    errno = 0;
    CHECK(!calloc(huge, huge) && errno == ENOMEM);
    errno = 0;
    CHECK(!malloc(huge * huge - 1) && errno == ENOMEM);
    CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
          errno == EINVAL);
}

static void files(void) {
    struct stat s;
    CHECK(!stat("/", &s) && S_ISDIR(s.st_mode));
    errno = 0;
    CHECK(open("/nonexistent", O_RDONLY) < 0 && errno == ENOENT);
    int fds[2];
    CHECK(!pipe2(fds, O_CLOEXEC) && !fstat(fds[0], &s) && S_ISFIFO(s.st_mode));
    CHECK(fcntl(fds[0], F_GETFD) == FD_CLOEXEC);
    struct pollfd wait = { fds[0], POLLIN, 0 };
    CHECK(poll(&wait, 1, 0) == 0 && write(fds[1], "x", 1) == 1 && poll(&wait, 1, -1) == 1);
    int copy = fcntl(fds[0], F_DUPFD_CLOEXEC, 100);
    char c;
    CHECK(copy >= 100 && read(copy, &c, 1) == 1 && c == 'x');
    CHECK(dup2(copy, copy) == copy && dup2(-1, -1) < 0 && errno == EBADF);
    close(copy);
    CHECK(syscall(SYS_fcntl, copy, F_GETFD) < 0 && errno == EBADF);
    struct timespec now;
    CHECK(!clock_gettime(CLOCK_MONOTONIC, &now) && now.tv_nsec < 1000000000);
    close(fds[0]);
    close(fds[1]);
}

/* Two messages' worth of control data, walked with the system's macros. */
static void sockets(void) {
    int pair[2], numbers[2] = { 0, 1 };
    char control[CMSG_SPACE(sizeof numbers)] = { 0 }, got[CMSG_SPACE(sizeof numbers) + 64], text[8];
    CHECK(!syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pair));
    struct iovec out = { "hi", 2 }, in = { text, sizeof text };
    struct msghdr sent = {
        .msg_iov = &out, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
    };
    struct cmsghdr *head = CMSG_FIRSTHDR(&sent);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof numbers);
    memcpy(CMSG_DATA(head), numbers, sizeof numbers);
    CHECK(sendmsg(pair[0], &sent, MSG_NOSIGNAL) == 2);
    struct msghdr received = {
        .msg_iov = &in, .msg_iovlen = 1, .msg_control = got, .msg_controllen = sizeof got
    };
    CHECK(recvmsg(pair[1], &received, MSG_CMSG_CLOEXEC) == 2 && !memcmp(text, "hi", 2));
    head = CMSG_FIRSTHDR(&received);
    CHECK(head && head->cmsg_len == CMSG_LEN(sizeof numbers) && !CMSG_NXTHDR(&received, head));
    struct ucred peer;
    socklen_t size = sizeof peer;
    CHECK(!getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &size) && peer.pid == getpid());
    CHECK(peer.uid == geteuid());
    close(pair[0]);
    close(pair[1]);
}

static void processes(char **envp) {
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        char *const argv[] = { "sh", "-c", "exit $A", NULL };
        char *const env[] = { "A=7", NULL };
        execve("/bin/sh", argv, env);
        _exit(99);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(envp == environ && getpid() == syscall(SYS_getpid));
    uid_t real, effective, saved;
    CHECK(!getresuid(&real, &effective, &saved) && effective == geteuid());
    CHECK(getgroups(0, NULL) >= 0);
}

int main(int argc, char **argv, char **envp) {
    CHECK(argc == 1 && argv[1] == NULL);
    strings();
    memory();
    files();
    sockets();
    processes(envp);
    return failed;
}
