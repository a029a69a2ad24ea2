/* The session that a worker leads, once it has a terminal: its keeper (src/client/keeper.c), which
 * is the client's own program, executed here, because it must be of this session. It is our
 * sibling, so that the program has no child that it did not make. */
#include "zygote/terminal.h"

#include "base/io.h"
#include "channel/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEPER_STACK 16384

/* What is open while a keeper starts. */
struct starting {
    int socket[2]; /* ours for the client, the keeper's */
    int ready[2];
    char client[40];
    int failed; /* errno of its exec */
};

static bool open_high(int pair[2]) {
    for (int i = 0; i < 2; i++)
        pair[i] = wf_move_fd(pair[i], ZY_FD_BRIEF);
    return true;
}

static void starting_done(struct starting *s) {
    for (int i = 0; i < 2; i++) {
        wf_close(&s->socket[i]);
        wf_close(&s->ready[i]);
    }
}

/* In a child that shares our memory and holds us up until it is another program. */
static int become_keeper(void *argument) {
    struct starting *s = argument;
    char *const argv[] = { (char *)"warmpy", (char *)"--warmfork-keeper", NULL }, *const envp[] = {
        NULL
    };
    const int from[] = { s->socket[1], s->ready[1] };
    for (int i = 0; i < 2; i++)
        if (syscall(SYS_dup3, from[i], i, 0) < 0)
            goto failed;
    syscall(SYS_close_range, 2, ~0u, 0);
    syscall(SYS_setpgid, 0, 0); /* here, so that the group is there when clone returns */
    syscall(SYS_execve, s->client, argv, envp);
failed:
    s->failed = errno ? errno : EINVAL;
    _exit(127);
}

static pid_t start(struct starting *s, uint32_t client) {
    static _Alignas(16) char stack[KEEPER_STACK];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s->socket) < 0 ||
        !open_high(s->socket) || pipe2(s->ready, O_CLOEXEC) < 0 || !open_high(s->ready))
        return 0;
    wf_fmt(s->client, sizeof s->client, "/proc/%u/exe", client);
    pid_t pid = clone(become_keeper, stack + sizeof stack,
                      CLONE_VM | CLONE_VFORK | CLONE_PARENT | SIGCHLD, s);
    return pid < 0 || s->failed != 0 ? 0 : pid;
}

/* The keeper says when stops work, and once it has done what the client told it first. A program
 * in the foreground is where the kernel has put it already, and need not wait for that. End of
 * file: there is no keeper any more. */
static void await_words(struct starting *s, int count) {
    char byte;
    wf_close(&s->ready[1]);
    wf_close(&s->socket[1]);
    while (count > 0) {
        long got = syscall(SYS_read, s->ready[0], &byte, 1);
        if (got == 0 || (got < 0 && errno != EINTR))
            return;
        count -= got > 0;
    }
}

pid_t zy_session_keep(const struct zy_job *job, int connection, bool in_front) {
    struct starting s = { .socket = { -1, -1 }, .ready = { -1, -1 } };
    pid_t keeper = start(&s, job->client_pid);
    if (keeper > 0 && wf_channel_send(connection, WF_KEEPER, 0, NULL, 0, &s.socket[0], 1, NULL) < 0)
        keeper = 0; /* it sees its socket end */
    if (keeper > 0)
        await_words(&s, in_front ? 1 : 2);
    starting_done(&s);
    return keeper;
}

void zy_session_drop_terminal(void) {
    static const struct timespec now = { 0, 0 };
    sigset_t set;
    int fd = zy_tty_open(WF_DEV_TTY, O_RDWR);
    if (fd < 0)
        return;
    zy_tty_control(fd, TIOCNOTTY, NULL);
    wf_close(&fd);
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigtimedwait(&set, NULL, &now);
}

void zy_session_put_in_front(pid_t group) {
    uint64_t stop = 1ull << (SIGTTOU - 1);
    int fd = zy_tty_open(WF_DEV_TTY, O_RDWR);
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &stop, NULL, sizeof stop);
    if (fd >= 0)
        zy_tty_control(fd, WF_TTY_SET_GROUP, &group);
    wf_close(&fd);
}
