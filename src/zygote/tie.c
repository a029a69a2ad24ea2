/* What ties a program to its client without anything open in the program.
 *
 * The tie is a socket pair. One end, the client's, comes with WF_STARTED. The other is set to have
 * the kernel kill the worker when the first closes (O_ASYNC, F_SETOWN, F_SETSIG): these belong to
 * the open file, whoever has it, also when the worker has become another program. And the other is
 * kept open by lying, sent and never received, in the queue of the first; which the kernel throws
 * away only after it has raised that signal (unix_release_sock). Nobody else has to live for this:
 * not the zygote, nor the daemon. All of it is made before there is a client.
 *
 * The program's end, and what else the client must know, is told by signals (WF_NOTICE_SIGNAL). */
#include "zygote/zygote.h"

#include "base/io.h"
#include "channel/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define LEAVE_US 1000 /* for the client's parent to have been woken */
/* A client connects at once, or cannot. Not all at once: both may be stopped meanwhile, which costs
 * one of these. */
#define ANSWER_MS 1000
#define ANSWERS 10
#define ON_THE_WAY 512 /* descriptors that a user may have sent and nobody received */

/* The kernel lets a user without privileges have as many descriptors on the way as RLIMIT_NOFILE of
 * the sender says, all processes together: far from what others can be expected to have. */
static bool park(int end) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } rights = { { 0 } };
    struct iovec part = { (char *)"", 1 };
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof end);
    memcpy(CMSG_DATA(c), &end, sizeof end);
    struct rlimit before, few;
    getrlimit(RLIMIT_NOFILE, &before);
    few = before;
    few.rlim_cur = before.rlim_cur < ON_THE_WAY ? before.rlim_cur : ON_THE_WAY;
    setrlimit(RLIMIT_NOFILE, &few);
    bool done = sendmsg(end, &msg, MSG_NOSIGNAL) == 1;
    setrlimit(RLIMIT_NOFILE, &before);
    return done;
}

/* A pidfd of this process between the two, all on neighbouring numbers. */
void zy_tie_prepare(bool armed) {
    int made[WF_STARTED_FDS], pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        _exit(8);
    made[WF_STARTED_TIE] = pair[0];
    made[WF_STARTED_UNTIE] = pair[1];
    made[WF_STARTED_PIDFD] = (int)syscall(SYS_pidfd_open, zy.own_pid, 0);
    zy.tied = park(pair[1]);
    if (armed && (fcntl(pair[1], F_SETOWN, zy.own_pid) < 0 ||
                  fcntl(pair[1], F_SETSIG, SIGKILL) < 0 || fcntl(pair[1], F_SETFL, O_ASYNC) < 0))
        _exit(8);
    for (int i = 0; i < WF_STARTED_FDS; i++) {
        if (dup3(made[i], ZY_FD_GIVEN + i, O_CLOEXEC) < 0)
            _exit(8);
        close(made[i]);
    }
}

static bool notify(const struct zy_job *job, enum wf_notice what, uint32_t value) {
    union sigval v = { .sival_ptr = (void *)(uintptr_t)WF_NOTICE(what, value) };
    return sigqueue((pid_t)job->client_pid, WF_NOTICE_SIGNAL, v) == 0;
}

void zy_tie_tell_input(const struct zy_job *job) { notify(job, WF_NOTICE_INPUT, 0); }

/* The client must not compete with the teardown of our address space; bounded, for it may be
 * stopped. Its parent is woken a moment after its end, and to the scheduler a CPU with nothing but
 * idle work is free. But the teardown is one long call, in which many kernels let nobody else run:
 * the parent would wait for all of it. */
void zy_tie_await_end(int fd) {
    struct sched_param param = { 0 };
    sched_setscheduler(0, SCHED_IDLE, &param);
    struct pollfd p = { .fd = fd, .events = POLLIN };
    poll(&p, 1, 1000);
    usleep(LEAVE_US);
}

static int listen_anywhere(uint32_t *ret_name) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t size = sizeof address;
    char name[8] = "";
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    fd = wf_move_fd(fd, ZY_FD_BASE);
    /* Without a name it is given one that is free: NUL and five hexadecimal digits. */
    if (bind(fd, (struct sockaddr *)&address, sizeof address.sun_family) < 0 || listen(fd, 4) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0 ||
        size != sizeof address.sun_family + 6) {
        wf_close(&fd);
        return -1;
    }
    memcpy(name, address.sun_path + 1, 5);
    *ret_name = (uint32_t)strtoul(name, NULL, 16);
    return fd;
}

/* A client that cannot be told (other credentials, too many signals queued) learns it from our wait
 * status. */
void zy_tie_tell_end(const struct zy_job *job) {
    uint32_t name = 0, status = job->status_kind << 8 | job->status_value;
    if (zy_terminal_is_alone())
        listen_anywhere(&name); /* what comes there goes with us */
    if (!notify(job, WF_NOTICE_EXITED, name << WF_NOTICE_NAME | status))
        return;
    zy_tie_await_end((int)syscall(SYS_pidfd_open, (pid_t)job->client_pid, 0));
}

int zy_tie_call(const struct zy_job *job) {
    uint32_t name;
    int fd = listen_anywhere(&name);
    if (fd >= 0 && !notify(job, WF_NOTICE_CONNECT, name))
        wf_close(&fd);
    return fd;
}

/* Anybody may connect; the kernel says who it was. */
int zy_tie_answered(const struct zy_job *job, int *listener) {
    int fd = -1;
    for (int left = ANSWERS; *listener >= 0 && fd < 0 && left > 0; left--) {
        struct pollfd p = { .fd = *listener, .events = POLLIN };
        uint32_t pid = 0;
        if (poll(&p, 1, ANSWER_MS) <= 0)
            continue;
        fd = accept4(*listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && (wf_channel_check_peer(fd, &pid, NULL) < 0 || pid != job->client_pid))
            wf_close(&fd);
        fd = fd < 0 ? fd : wf_move_fd(fd, ZY_FD_BASE);
    }
    wf_close(listener);
    return fd;
}
