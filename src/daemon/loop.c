/* The event loop: epoll over sockets, pidfds and pipes, with signals and time as descriptors. */
#include "daemon/daemon.h"

#include "base/io.h"
#include "base/log.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

int wd_watch(struct daemon *d, struct wd_watch *w, int fd, void (*ready)(struct daemon *, void *),
             void *owner, struct wf_err *err) {
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = w };
    if (epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        wf_err_sys(err, "epoll_ctl", "add");
        wf_close(&fd);
        return -1;
    }
    *w = (struct wd_watch){ .fd = fd, .ready = ready, .owner = owner };
    return 0;
}

/* Removed by hand: closing is not enough when a child that we forked still holds the same open
 * file. */
void wd_unwatch(struct daemon *d, struct wd_watch *w) {
    if (w->fd < 0)
        return;
    epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    wf_close(&w->fd);
}

static void signals_ready(struct daemon *d, void *unused) {
    (void)unused;
    struct signalfd_siginfo info;
    while (read(d->signals.fd, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGCHLD:
            wd_reap(d);
            break;
        case SIGHUP:
            wd_log_start(d);
            break;
        case SIGTERM:
        case SIGINT:
            wf_log(WF_LOG_INFO, "signal %u: stopping", info.ssi_signo);
            d->leaving = true;
            wd_stop(d, "", "the daemon was told to stop");
            break;
        }
    }
}

static void timer_ready(struct daemon *d, void *unused) {
    (void)unused;
    uint64_t count;
    if (read(d->timer.fd, &count, sizeof count) < 0)
        return; /* nothing to do but settle, which happens anyway */
}

static int signals_init(struct daemon *d, struct wf_err *err) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
        return wf_err_sys(err, "sigprocmask", NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return wf_err_sys(err, "signalfd", NULL);
    return wd_watch(d, &d->signals, fd, signals_ready, d, err);
}

int wd_loop_init(struct daemon *d, struct wf_err *err) {
    d->signals.fd = d->timer.fd = d->listen.fd = -1;
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll_fd < 0)
        return wf_err_sys(err, "epoll_create1", NULL);
    if (signals_init(d, err) < 0)
        return -1;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0)
        return wf_err_sys(err, "timerfd_create", NULL);
    return wd_watch(d, &d->timer, fd, timer_ready, d, err);
}

/* Deadlines are few: the nearest is looked for anew after each batch, so none can be forgotten. */
static void set_timer(struct daemon *d) {
    long long at = wd_next_deadline(d);
    struct itimerspec spec = { .it_value = { .tv_sec = at / WD_SECOND,
                                             .tv_nsec = at % WD_SECOND * 1000 } };
    timerfd_settime(d->timer.fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

int wd_loop_run(struct daemon *d, struct wf_err *err) {
    for (;;) {
        wd_settle(d);
        if (d->done)
            return 0;
        set_timer(d);
        struct epoll_event events[32];
        int count = epoll_wait(d->epoll_fd, events, 32, -1);
        if (count < 0 && errno != EINTR)
            return wf_err_sys(err, "epoll_wait", NULL);
        for (int i = 0; i < count; i++) {
            struct wd_watch *w = events[i].data.ptr;
            if (w->fd >= 0) /* else closed by an earlier event of this batch */
                w->ready(d, w->owner);
        }
    }
}
