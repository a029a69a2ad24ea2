/* The zygote's loop: refills standbys, reaps workers, listens to the daemon, and notices what makes
 * it stale.
 *
 * Plain C on poll: no Python object is touched here but by forking. */
#include "zygote/zygote.h"

#include "base/io.h"
#include "channel/channel.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define CTLS (sizeof zy.ctl / sizeof *zy.ctl)
#define FORK_TRIES 3 /* a second apart, before a zygote that never served gives up */
#define QUIET_US                                                                                   \
    (300 * 1000000LL) /* without a run for so long: no standbys, the next run waits for a fork */
#define ORPHAN_US (1800 * 1000000LL) /* without a daemon and without a run for so long: go */

struct zygote zy;

void zy_kill_standbys(void) {
    for (unsigned i = 0; i < ZY_SLOTS; i++) {
        int waiting = ZY_WAITING, preparing = ZY_PREPARING;
        if (zy.worker[i].pid != 0 &&
            (atomic_compare_exchange_strong(&zy.shared->state[i], &waiting, ZY_FREE) ||
             atomic_compare_exchange_strong(&zy.shared->state[i], &preparing, ZY_FREE)))
            kill(zy.worker[i].pid, SIGKILL);
    }
}

/* Takes over a WF_SPAWN: the request and, as descriptor, the control socket of the zygote to be. */
int zy_adopt_request(struct wf_message *m, struct wf_err *err) {
    struct wf_request r;
    uint8_t *data = malloc(m->header.size ? m->header.size : 1);
    if (data == NULL)
        return wf_err_sys(err, "malloc", "a request");
    memcpy(data, m->payload, m->header.size);
    const char *wrong = wf_decode_request(data, m->header.size, &r);
    if (wrong == NULL && !r.bounded)
        wrong = "no bounds";
    if (wrong != NULL || m->nfds != 1) {
        free(data);
        return wf_err_msg(err, "WF_SPAWN: %s", wrong ? wrong : "descriptor count");
    }
    free(zy.request_data);
    zy.request_data = data;
    zy.request_size = m->header.size;
    zy.request = r;
    memcpy(zy.key, r.key, WF_KEY_SIZE);
    zy.variant = r.variant;
    wf_close(&zy.control);
    zy.control = wf_move_fd(m->fds[0], ZY_FD_BASE);
    m->nfds = 0;
    return 0;
}

/* Returns true in a forked candidate. */
static bool serve_control(void) {
    static struct wf_message m;
    struct wf_err err = { 0 };
    if (wf_channel_receive(zy.control, &m, NULL, 0, 5000, &err) <= 0) {
        wf_close(&zy.control);
        if (!zy.ready_told) /* it gave us up before we were of use */
            zy_stop_serving("given up");
        return false; /* the daemon has gone: serve on */
    }
    bool candidate = false;
    if (m.header.type == WF_SPAWN && zy.base) {
        pid_t pid;
        candidate = zy_fork(&pid, &err) == ZY_CHILD;
        if (candidate && (zy_become_candidate(), zy_adopt_request(&m, &err) < 0))
            _exit(1);
        if (err.text[0] != '\0')
            zy_tell(WF_NOTE, 1, err.text); /* closing the new control socket says the rest */
    } else if (m.header.type == WF_RETIRE) {
        zy_stop_serving("retired");
    }
    wf_message_done(&m);
    return candidate;
}

void zy_become_candidate(void) {
    zy.base = false;
    zy.serving = zy.ready_told = false;
    zy.early_deaths = zy.slots_used = zy.fork_failures = 0;
    zy.environ_rehearsed = false;
    zy.pages = ZY_PAGES_UNKNOWN;
    zy.learner = 0;
    zy.zygote_pid = getpid();
    int *const fds[] = { &zy.listen, &zy.ctl_listen, &zy.wake, &zy.refill, &zy.watch, &zy.opened };
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        wf_close(fds[i]);
    for (unsigned i = 0; i < CTLS; i++)
        wf_close(&zy.ctl[i]);
    zy_asks_forget();
    memset(zy.worker, 0, sizeof zy.worker);
    memset(zy.ended, 0, sizeof zy.ended);
    zy_heap_candidate();
}

static void drain(int fd) {
    uint64_t n;
    if (read(fd, &n, sizeof n) < 0 && errno != EAGAIN)
        zy_tell(WF_NOTE, 1, "read: eventfd");
}

static bool done(void) {
    long long last = atomic_load(&zy.shared->last_us), now = wf_now_us();
    unsigned running = zy_count(ZY_TAKEN);
    if (zy.serving && zy.control < 0 && running == 0 && now - last > ORPHAN_US)
        zy_stop_serving("idle without a daemon");
    if (zy_route_lost())
        zy_stop_serving("its socket was removed");
    if (zy.serving && running == 0 && now - last > QUIET_US && zy.target > 0) {
        zy.target = 0;
        zy_kill_standbys();
        zy.stats_due = true;
    }
    if (!zy.serving && running == 0)
        zy_route_unlink(true);
    return !zy.serving && running == 0;
}

/* The poll set. */
enum {
    P_SIGNALS,
    P_CONTROL,
    P_CTL_LISTEN,
    P_WAKE,
    P_REFILL,
    P_WATCH,
    P_LISTEN,
    P_CTL,
    P_COUNT = P_CTL + 8
};

static void fill(struct pollfd p[P_COUNT]) {
    const int fd[P_CTL] = {
        zy.signals, zy.control, zy.ctl_listen, zy.wake, zy.refill, zy.watch, -1
    };
    for (int i = 0; i < P_COUNT; i++)
        p[i] = (struct pollfd){ .fd = i < P_CTL ? fd[i] : zy.ctl[i - P_CTL], .events = POLLIN };
    /* Standbys accept by themselves; only when there is none does the zygote look. */
    if (zy.serving && atomic_load(&zy.shared->waiting) <= 0 && zy_count(ZY_PREPARING) == 0)
        p[P_LISTEN].fd = zy.listen;
}

static bool signalled(void) {
    struct signalfd_siginfo info;
    bool end = false;
    while (read(zy.signals, &info, sizeof info) == sizeof info)
        end |= info.ssi_signo == SIGTERM;
    zy_reap();
    zy.stats_due = true;
    return end;
}

bool zy_loop(void) {
    zy_asks_forget();
    atomic_store(&zy.shared->last_us, wf_now_us());
    bool urgent = false;
    for (;;) {
        struct pollfd p[P_COUNT];
        if (zy_refill(urgent))
            return true;
        if (!zy.ready_told && zy.fork_failures >= FORK_TRIES) {
            zy_route_unlink(false); /* the daemon may believe that the next has them already */
            zy_route_unlink(true);
            zy_tell(WF_FAILED, 100, "no worker can be forked");
            _exit(1);
        }
        if (!zy.ready_told && zy.serving && atomic_load(&zy.shared->waiting) > 0 &&
            !zy_tell_ready())
            zy_stop_serving("given up before it was ready");
        zy_tell_stats();
        if (done())
            _exit(0);
        fill(p);
        int timeout = zy_stops_expected()               ? ZY_STOPS_MS
                      : zy.stats_due || zy.fork_failing ? 1000
                                                        : 60000;
        if (poll(p, P_COUNT, timeout) < 0 && errno != EINTR)
            _exit(1);
        urgent = p[P_LISTEN].revents != 0;
        if (urgent && zy.target == 0)
            zy.target = ZY_STANDBY;
        if (p[P_SIGNALS].revents && signalled())
            _exit(0);
        if (p[P_WAKE].revents) {
            drain(zy.wake);
            urgent |= atomic_load(&zy.shared->waiting) <= 0;
        }
        if (p[P_REFILL].revents)
            drain(zy.refill);
        if (p[P_WATCH].revents) {
            const char *name = zy_watch_read();
            char text[320];
            wf_fmt(text, sizeof text, "stale: %s changed", name ? name : "");
            if (name != NULL)
                zy_stop_serving(text);
        }
        for (int i = 0; i < (int)CTLS; i++)
            if (p[P_CTL + i].revents)
                zy_asks_serve(i);
        if (p[P_CTL_LISTEN].revents)
            zy_asks_accept();
        if (p[P_CONTROL].revents && serve_control())
            return false;
        zy_stops_look();
    }
}
