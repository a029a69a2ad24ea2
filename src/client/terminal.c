#include "client/terminal.h"

#include "base/cleanup.h"
#include "client/signals.h"
#include "client/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(sig) (1ull << ((sig) - 1))

static int start(struct wf_terminal *t) {
    int on = 1;
    t->real = openat(AT_FDCWD, WF_DEV_TTY, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (t->master < 0 || t->real < 0)
        return -1;
    t->slave = ioctl(t->master, WF_TTY_PEER, (long)(O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    t->changes = t->slave < 0 ? -1 : wf_modes_watch(t->slave);
    if (t->changes < 0 || fcntl(t->master, F_SETFL, O_RDWR | O_NONBLOCK) < 0 ||
        ioctl(t->master, WF_TTY_PACKETS, &on) < 0 || ioctl(t->real, WF_TTY_MODES, &t->outer) < 0)
        return -1;
    t->group = (int)syscall(SYS_getpgid, 0);
    wf_modes_find_place(t);
    wf_modes_follow(t); /* the program may have changed them already */
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

/* Closing a master for the last time hangs up what is behind it, and wakes two threads of the
 * kernel, while our parent waits for us. A keeper has one as well; where there is none the worker,
 * which goes after us, has it waiting for a connection to be accepted. */
static void leave_master(const struct wf_terminal *t) {
    int fd = t->run->leave_at == 0 ? -1 : wf_run_connect(t->run, t->run->leave_at);
    if (fd >= 0)
        wf_terminal_pass(fd, 0, &t->master, 1);
    wf_close(&fd);
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
    wf_modes_notice_foreground(t);
    if (t->foreground) {
        wf_modes_follow(t);
        if (t->raw)
            wf_modes_leave_raw(t);
        wf_relay_give_back(t);
    }
    wf_close(&t->changes);
    wf_close(&t->slave);
    do
        result = wf_relay_output(t);
    while (result == WF_RELAYED_MORE || (result == WF_RELAYED_BLOCKED && poll(&item, 1, -1) >= 0));
    if (result != WF_RELAYED_END)
        leave_behind(t);
    else
        leave_master(t);
}

/* The end of a short program, once more. */
static void spin(struct wf_terminal *t) {
    const struct wf_run *run = t->run;
    for (long long until = run->spins ? wf_now_us() + WF_SPIN_US : 0;
         run->spins && !run->ended && t->keeper < 0 && wf_now_us() < until;) {
        wf_terminal_take_signals(t);
        syscall(SYS_sched_yield);
    }
}

void wf_terminal_follow(struct wf_run *run, int signals) {
    static uint8_t out[WF_RELAY_ROOM], in[WF_RELAY_ROOM / 8];
    struct wf_terminal t = { .run = run,
                             .signals = signals,
                             .keeper = -1,
                             .master = wf_steal_fd(&run->master),
                             .modes = run->modes,
                             .out = out,
                             .in = in,
                             .real = -1,
                             .slave = -1,
                             .changes = -1 };
    struct pollfd items[ITEMS];
    enum wf_relayed result = WF_RELAYED_ALL;
    bool dead = false;
    if (start(&t) < 0) /* out of descriptors, or of memory: the program sees that terminal end */
        wf_terminal_hang_up(&t);
    spin(&t);
    while (!wf_run_check(run, dead)) {
        wf_keeper_take(&t);
        wait_for_something(&t, result == WF_RELAYED_MORE, result == WF_RELAYED_BLOCKED, items);
        dead = items[PROGRAM].revents != 0;
        if (items[SIGNALS].revents != 0)
            wf_terminal_take_signals(&t);
        if (t.master < 0) {
            result = WF_RELAYED_ALL;
            continue;
        }
        bool changed = items[CHANGES].revents != 0;
        if (changed)
            wf_modes_forget_change(&t);
        /* What was written before a change of modes is written with the old ones. */
        result = wf_relay_output(&t);
        if (changed)
            wf_modes_follow(&t);
        wf_modes_notice_foreground(&t);
        if ((items[REAL].revents & (POLLHUP | POLLERR)) && !(items[REAL].revents & POLLIN))
            wf_terminal_hang_up(&t); /* seen in the foreground only */
        else if ((items[REAL].revents & POLLIN) || (items[MASTER].revents & POLLOUT) ||
                 (t.foreground && t.wait_ms > 0 && wf_now_us() >= t.look_us))
            wf_relay_input(&t);
    }
    finish(&t);
}
