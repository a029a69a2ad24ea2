#include "client/terminal.h"

#include "base/cleanup.h"
#include "client/keeper.h"
#include "client/signals.h"
#include "client/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(sig) (1ull << ((sig) - 1))

#ifndef SI_KERNEL
#define SI_KERNEL 0x80
#endif

static void command(const struct wf_terminal *t, enum wf_keeper_command what) {
    const char byte = (char)what;
    send(t->keeper, &byte, 1, MSG_NOSIGNAL);
}

/* It is there already: sent by the worker before it sent us the socket. */
static int receive_master(int keeper, struct wf_modes *ret_modes) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    int fd = -1;
    struct iovec part = { ret_modes, sizeof *ret_modes };
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    if (recvmsg(keeper, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != (ssize_t)sizeof *ret_modes)
        return -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

/* A change of modes wakes those who wait for room in a terminal, and an edge-triggered watch
 * reports each such waking: nothing else does, but for polling. */
static int watch_changes(int slave) {
    struct epoll_event event = { .events = EPOLLOUT | EPOLLET };
    int fd = (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
    if (fd >= 0)
        syscall(SYS_epoll_ctl, fd, EPOLL_CTL_ADD, slave, &event);
    return fd;
}

static void forget_change(const struct wf_terminal *t) {
    struct epoll_event event;
    syscall(SYS_epoll_pwait, t->changes, &event, 1, 0, NULL, 8);
}

static void copy_size(const struct wf_terminal *t) {
    uint16_t size[4];
    if (t->master >= 0 && ioctl(t->real, WF_TTY_SIZE, size) == 0)
        ioctl(t->master, WF_TTY_SET_SIZE, size);
}

static bool same_modes(const struct wf_modes *a, const struct wf_modes *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

/* Gives the caller's terminal these modes. */
static void set_outer(struct wf_terminal *t, const struct wf_modes *modes) {
    if (ioctl(t->real, WF_TTY_SET_MODES, modes) == 0)
        t->outer = *modes;
}

static void make_raw(struct wf_terminal *t) {
    struct wf_modes raw = t->modes;
    raw.input &= ~WF_INPUT_RAW_OFF;
    raw.output &= ~WF_OUTPUT_PROCESSED;
    raw.local &= ~(WF_LOCAL_ECHO | WF_LOCAL_ECHO_NEWLINE | WF_LOCAL_CANONICAL | WF_LOCAL_SIGNALS |
                   WF_LOCAL_EXTENDED);
    raw.key[WF_KEY_LEAST] = 1;
    raw.key[WF_KEY_TIME] = 0;
    command(t, WF_KEEPER_RAW);
    t->raw = true;
    t->literal = false;
    set_outer(t, &raw);
}

static void leave_raw(struct wf_terminal *t) {
    set_outer(t, &t->modes);
    if (t->raw)
        command(t, WF_KEEPER_RESTORED);
    t->raw = false;
}

/* Modes that the program sets are set for the caller's terminal too, in the foreground; but what
 * works on single keys is done by the program's terminal alone. Those that it finds and leaves
 * alone may have been set by others, such as a pager that shows its output. */
static void follow_modes(struct wf_terminal *t) {
    struct wf_modes now;
    if (t->master < 0 || ioctl(t->slave, WF_TTY_MODES, &now) < 0 || same_modes(&now, &t->modes))
        return;
    t->modes = now;
    t->keys = !(now.local & WF_LOCAL_CANONICAL);
    if (!t->foreground)
        return;
    if (t->keys)
        make_raw(t);
    else
        leave_raw(t);
}

static void find_place(struct wf_terminal *t) {
    int group = 0;
    t->foreground = ioctl(t->real, WF_TTY_GROUP, &group) == 0 && group == t->group;
}

/* From the background to the foreground, without having been stopped in between. */
static void notice_foreground(struct wf_terminal *t) {
    if (t->foreground)
        return;
    find_place(t);
    if (!t->foreground)
        return;
    ioctl(t->real, WF_TTY_MODES, &t->outer);
    command(t, WF_KEEPER_FOREGROUND);
    copy_size(t);
    follow_modes(t);
}

/* The caller's terminal may have been given other modes, another size and another foreground group
 * while we were stopped. */
static void resume(struct wf_terminal *t) {
    struct wf_modes now;
    find_place(t);
    copy_size(t);
    if (t->foreground && t->master >= 0 && ioctl(t->real, WF_TTY_MODES, &now) == 0) {
        if (!same_modes(&now, &t->outer) && !t->raw &&
            ioctl(t->slave, WF_TTY_SET_MODES, &now) == 0) {
            t->modes = now;
            t->keys = false;
        }
        t->outer = now;
        if (t->keys)
            make_raw(t);
        follow_modes(t);
    }
    command(t, t->foreground ? WF_KEEPER_FOREGROUND : WF_KEEPER_BACKGROUND);
    command(t, WF_KEEPER_CONTINUE);
}

/* The program has been stopped: the caller's terminal as the program left it, and this process
 * stopped in the same way. When the kernel does not (an orphaned group), the program goes on too.
 */
static void suspend(struct wf_terminal *t, int sig) {
    uint64_t pending = 0;
    if (!wf_signals_program_stopped(t->run))
        return;
    if (sig == SIGTTIN || sig == SIGTTOU)
        notice_foreground(t);
    if ((sig == SIGTTIN || sig == SIGTTOU) && t->foreground) {
        command(t, WF_KEEPER_CONTINUE);
        return;
    }
    while (wf_relay_output(t) == WF_RELAYED_MORE)
        ;
    if (t->foreground && t->raw)
        leave_raw(t);
    wf_signals_stop_here(sig);
    syscall(SYS_rt_sigpending, &pending, sizeof pending);
    if ((pending & BIT(SIGCONT)) == 0)
        resume(t);
}

/* What the caller's terminal made of a key. */
static void key_signal(struct wf_terminal *t, int sig) {
    bool was_foreground = t->foreground;
    notice_foreground(t);
    if (!(t->modes.local & WF_LOCAL_NO_FLUSH))
        t->flushed = ioctl(t->slave, WF_TTY_FLUSH, 0) == 0; /* the real one has been */
    if (!was_foreground || ioctl(t->master, WF_TTY_SIGNAL, (long)sig) < 0)
        syscall(SYS_kill, -(int)t->run->started.pid, sig);
}

/* The caller's terminal is gone. A program in the foreground learns of it as it always would: by
 * the end of its own. */
static void hang_up(struct wf_terminal *t) {
    command(t, WF_KEEPER_RESTORED);
    wf_close(&t->changes);
    wf_close(&t->slave);
    wf_close(&t->master);
    wf_close(&t->keeper);
}

static bool ends_programs(int sig) {
    return sig != SIGCHLD && sig != SIGCONT && sig != SIGURG && sig != SIGWINCH && sig != SIGTSTP &&
           sig != SIGTTIN && sig != SIGTTOU;
}

static void kill_program(const struct wf_terminal *t, int sig) {
    const char bytes[2] = { WF_KEEPER_KILL, (char)sig };
    if (send(t->keeper, bytes, sizeof bytes, MSG_NOSIGNAL) < 0)
        wf_run_signal(t->run, sig, NULL, NULL);
}

/* Returns the signal that the program was stopped by, or 0. */
static int take_signal(struct wf_terminal *t, const struct signalfd_siginfo *got) {
    int sig = (int)got->ssi_signo, stopped = wf_signals_notice(t->run, got);
    if (stopped >= 0)
        return stopped;
    bool ours = got->ssi_code == SI_USER && (int)got->ssi_pid == getpid();
    if (ours && (sig == SIGINT || sig == SIGQUIT || sig == SIGTSTP))
        return 0; /* signal_others in relay.c */
    if (sig == SIGCHLD)
        return SIGSTOP; /* the kernel keeps one: a notice may be behind this one */
    if (sig == SIGCONT)
        resume(t);
    else if (sig == SIGWINCH && got->ssi_code == SI_KERNEL)
        notice_foreground(t), copy_size(t);
    else if ((sig == SIGINT || sig == SIGQUIT || sig == SIGTSTP) && got->ssi_code == SI_KERNEL)
        key_signal(t, sig);
    else if (sig == SIGHUP && got->ssi_code == SI_KERNEL && t->foreground)
        hang_up(t);
    else if (sig == SIGHUP &&
             (got->ssi_code == SI_KERNEL || (long)got->ssi_pid == syscall(SYS_getsid, 0)))
        syscall(SYS_kill, -(int)t->run->started.pid,
                sig); /* as the shell's end is to a whole job */
    else if (t->foreground && ends_programs(sig) && got->ssi_code != SI_QUEUE &&
             wf_signals_would_act(t->run, sig))
        kill_program(t, sig);
    else
        wf_signals_pass(t->run, got);
    return 0;
}

static void take_signals(struct wf_terminal *t) {
    struct signalfd_siginfo got[4];
    ssize_t size;
    int stopped = 0;
    while ((size = read(t->signals, got, sizeof got)) > 0)
        for (size_t i = 0; i < (size_t)size / sizeof *got; i++) {
            int by = take_signal(t, &got[i]);
            if (by > 0 && (stopped == 0 || by != SIGSTOP))
                stopped = by;
        }
    if (stopped > 0)
        suspend(t, stopped);
}

static int start(struct wf_terminal *t) {
    int on = 1;
    t->master = receive_master(t->keeper, &t->modes);
    t->real = openat(AT_FDCWD, WF_DEV_TTY, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (t->master < 0 || t->real < 0)
        return -1;
    t->slave = ioctl(t->master, WF_TTY_PEER, (long)(O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    t->changes = t->slave < 0 ? -1 : watch_changes(t->slave);
    if (t->changes < 0 || fcntl(t->master, F_SETFL, O_RDWR | O_NONBLOCK) < 0 ||
        ioctl(t->master, WF_TTY_PACKETS, &on) < 0 || ioctl(t->real, WF_TTY_MODES, &t->outer) < 0)
        return -1;
    t->group = (int)syscall(SYS_getpgid, 0);
    find_place(t);
    command(t, t->foreground ? WF_KEEPER_FOREGROUND : WF_KEEPER_BACKGROUND);
    follow_modes(t); /* the program may have changed them already */
    return 0;
}

enum { CONNECTION, PROGRAM, SIGNALS, MASTER, CHANGES, REAL, ITEMS };

static void wait_for_something(const struct wf_terminal *t, bool more, bool blocked,
                               struct pollfd items[ITEMS]) {
    bool pending = t->in_from < t->in_to;
    bool asks = t->foreground && t->master >= 0 && !pending && (t->raw || t->wait_ms == 0);
    items[CONNECTION] = (struct pollfd){ .fd = t->run->replies.fd, .events = POLLIN };
    items[PROGRAM] = (struct pollfd){ .fd = t->run->pidfd, .events = POLLIN };
    items[SIGNALS] = (struct pollfd){ .fd = t->signals, .events = POLLIN };
    items[MASTER] = (struct pollfd){ .fd = t->master, .events = 0 };
    items[MASTER].events = (short)((blocked ? 0 : POLLIN) | (pending ? POLLOUT : 0));
    if (items[MASTER].events == 0)
        items[MASTER].fd = -1;
    items[CHANGES] = (struct pollfd){ .fd = t->changes, .events = POLLIN };
    items[REAL] = (struct pollfd){ .fd = t->real };
    items[REAL].events = (short)((blocked ? POLLOUT : 0) | (asks ? POLLIN : 0));
    if (items[REAL].events == 0)
        items[REAL].fd = -1;
    int timeout = more ? 0 : -1;
    if (!more && t->foreground && !t->raw && t->wait_ms > 0) {
        long long left = t->look_us - wf_now_us();
        timeout = left > 0 ? (int)(left / 1000) + 1 : 0;
    }
    for (int i = 0, got = poll(items, ITEMS, timeout); i < ITEMS; i++)
        if (got <= 0)
            items[i].revents = 0;
}

/* Another process goes on for children of the program that still write: until nobody has its
 * terminal open any more. */
static void leave_behind(struct wf_terminal *t) {
    struct pollfd items[2] = { { .fd = t->master }, { .fd = t->real } };
    if (wf_spawn_fork() != 0)
        return;
    wf_close(&t->signals);
    wf_close(&t->keeper);
    wf_run_done(t->run);
    wf_signals_restore(BIT(SIGTTOU) | BIT(SIGTTIN) | BIT(SIGTSTP));
    t->foreground = false;
    for (;;) {
        ioctl(t->real, WF_TTY_MODES, &t->outer);
        enum wf_relayed result = wf_relay_output(t);
        if (result == WF_RELAYED_END)
            _exit(0);
        items[0].events = result == WF_RELAYED_BLOCKED ? 0 : POLLIN;
        items[1].events = result == WF_RELAYED_BLOCKED ? POLLOUT : 0;
        if (result != WF_RELAYED_MORE && poll(items, 2, -1) > 0 &&
            (items[1].revents & (POLLHUP | POLLERR)))
            _exit(0); /* the caller's terminal is gone: so is the children's */
    }
}

/* All output, the program's modes, what nobody has read. */
static void finish(struct wf_terminal *t) {
    enum wf_relayed result;
    struct pollfd item = { .fd = t->real, .events = POLLOUT };
    while ((result = wf_relay_output(t)) == WF_RELAYED_MORE || result == WF_RELAYED_BLOCKED)
        if (result == WF_RELAYED_BLOCKED)
            poll(&item, 1, -1);
    if (t->master < 0)
        return;
    notice_foreground(t);
    if (t->foreground) {
        follow_modes(t);
        if (t->raw)
            leave_raw(t);
        wf_relay_give_back(t);
    }
    wf_close(&t->changes);
    wf_close(&t->slave);
    do
        result = wf_relay_output(t);
    while (result == WF_RELAYED_MORE || (result == WF_RELAYED_BLOCKED && poll(&item, 1, -1) >= 0));
    if (result != WF_RELAYED_END)
        leave_behind(t);
}

void wf_terminal_follow(struct wf_run *run, int signals) {
    static uint8_t out[WF_RELAY_ROOM], in[WF_RELAY_ROOM / 8];
    struct wf_terminal t = { .run = run,
                             .signals = signals,
                             .keeper = run->keeper,
                             .out = out,
                             .in = in,
                             .real = -1,
                             .slave = -1,
                             .changes = -1 };
    struct pollfd items[ITEMS];
    enum wf_relayed result = WF_RELAYED_ALL;
    bool dead = false;
    run->keeper = -1;
    if (start(&t) < 0) /* out of descriptors, or of memory: the program sees that terminal end */
        hang_up(&t);
    while (!wf_run_check(run, dead)) {
        wait_for_something(&t, result == WF_RELAYED_MORE, result == WF_RELAYED_BLOCKED, items);
        dead = items[PROGRAM].revents != 0;
        if (items[SIGNALS].revents != 0)
            take_signals(&t);
        if (t.master < 0) {
            result = WF_RELAYED_ALL;
            continue;
        }
        bool changed = items[CHANGES].revents != 0;
        if (changed)
            forget_change(&t);
        /* What was written before a change of modes is written with the old ones. */
        result = wf_relay_output(&t);
        if (changed)
            follow_modes(&t);
        notice_foreground(&t);
        if ((items[REAL].revents & (POLLHUP | POLLERR)) && !(items[REAL].revents & POLLIN))
            hang_up(&t); /* seen in the foreground only */
        else if ((items[REAL].revents & POLLIN) || (items[MASTER].revents & POLLOUT) ||
                 (t.foreground && t.wait_ms > 0 && wf_now_us() >= t.look_us))
            wf_relay_input(&t);
    }
    finish(&t);
}
