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
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define CTLS (sizeof zy.ctl / sizeof *zy.ctl)
#define ASKS 64
#define STATS_US 1000000LL
#define FORK_TRIES 3 /* a second apart, before a zygote that never served gives up */
#define QUIET_US                                                                                   \
    (300 * 1000000LL) /* without a run for so long: no standbys, the next run waits for a fork */
#define ORPHAN_US (1800 * 1000000LL) /* without a daemon and without a run for so long: go */

struct zygote zy;

static struct {
    int fd; /* index into zy.ctl; -1: free */
    struct wf_started who;
} asks[ASKS];
static long long told_us;

static bool send_buf(int fd, enum wf_type type, struct wf_buf *out) {
    struct iovec iov = { out->data, out->size };
    return fd >= 0 && !out->failed && wf_channel_send(fd, type, 0, &iov, 1, NULL, 0, NULL) == 0;
}

void zy_tell(enum wf_type type, unsigned code, const char *text) {
    struct wf_buf out;
    wf_buf_init(&out, WF_MAX_TEXT);
    struct wf_text m = { code, { (const uint8_t *)text, (uint32_t)strlen(text) } };
    wf_encode_text(&out, &m);
    send_buf(zy.control, type, &out);
    wf_buf_done(&out);
}

bool zy_tell_ready(void) {
    struct wf_buf out;
    wf_buf_init(&out, WF_MAX_TEXT);
    const struct wf_request *r = &zy.request;
    const char *s = (const char *)r->strings.data, *first = s + strlen(s) + 1, *end = first;
    for (uint32_t i = 0; i < r->options; i++)
        end += strlen(end) + 1;
    const char *directory;
    unsigned asked = zy_here_asked(&directory);
    struct wf_ready m = {
        .pid = (uint32_t)getpid(),
        .variant = zy.variant,
        .asked = asked,
        .name = r->zygote,
        .python = r->python,
        .options = { (const uint8_t *)first, (uint32_t)(end - first) },
        .preload = r->preload,
        .init = r->init,
        .directory = { (const uint8_t *)directory, (uint32_t)strlen(directory) },
        .version = { (const uint8_t *)zy.version, (uint32_t)strlen(zy.version) },
    };
    memcpy(m.key, zy.key, WF_KEY_SIZE);
    wf_encode_ready(&out, &m);
    zy.ready_told = send_buf(zy.control, WF_READY, &out);
    wf_buf_done(&out);
    return zy.ready_told;
}

static void tell_stats(void) {
    unsigned long long served = atomic_load(&zy.shared->served);
    long long now = wf_now_us();
    if (zy.control < 0 || now - told_us < STATS_US || (served == zy.served_told && !zy.stats_due))
        return;
    struct wf_buf out;
    wf_buf_init(&out, 256);
    struct wf_stats m = { zy_count(ZY_WAITING), zy_count(ZY_TAKEN), served,
                          atomic_load(&zy.shared->refused),
                          (uint64_t)atomic_load(&zy.shared->last_us) };
    wf_encode_stats(&out, &m);
    send_buf(zy.control, WF_STATS, &out);
    wf_buf_done(&out);
    zy.served_told = served;
    zy.stats_due = false;
    told_us = now;
}

void zy_tell_process(void) {
    uint8_t small[32];
    struct wf_buf out;
    wf_buf_init_fixed(&out, small, sizeof small);
    struct wf_started m = { (uint32_t)getpid(), zy_own_start_time() };
    wf_encode_started(&out, &m);
    send_buf(zy.control, WF_STARTED, &out);
}

bool zy_given_up(void) {
    struct pollfd p = { .fd = zy.control, .events = POLLRDHUP };
    return zy.control < 0 || (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP)));
}

int zy_open(struct wf_err *err) {
    char name[48];
    int *const fds[] = { &zy.listen, &zy.ctl_listen, &zy.wake, &zy.refill };
    wf_route_name(zy.key, zy.variant, true, name);
    if (wf_channel_listen(zy.rundir, name, 64, &zy.ctl_listen, err) < 0)
        return -1;
    wf_route_name(zy.key, zy.variant, false, name);
    if (wf_channel_listen(zy.rundir, name, 256, &zy.listen, err) < 0)
        return -1;
    for (int control = 0; control < 2; control++) {
        struct stat st;
        char path[160];
        wf_route_name(zy.key, zy.variant, control, name);
        wf_fmt(path, sizeof path, "%s/%s", zy.rundir, name);
        if (stat(path, &st) < 0)
            return wf_err_sys(err, "stat", path);
        zy.route_ino[control] = st.st_ino;
    }
    zy.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    zy.refill = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (zy.wake < 0 || zy.refill < 0)
        return wf_err_sys(err, "eventfd", "to be woken by workers");
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        *fds[i] = wf_move_fd(*fds[i], ZY_FD_BASE);
    zy.serving = true;
    zy.target = ZY_STANDBY;
    zy.stats_due = true;
    return 0;
}

/* Only what is ours: a newer zygote may have taken the route. */
static void unlink_route(bool control) {
    char path[160], name[48];
    struct stat st;
    wf_route_name(zy.key, zy.variant, control, name);
    wf_fmt(path, sizeof path, "%s/%s", zy.rundir, name);
    if (stat(path, &st) == 0 && st.st_ino == zy.route_ino[control])
        unlink(path);
}

void zy_stop_serving(const char *reason) {
    if (!zy.serving)
        return;
    zy.serving = false;
    unlink_route(false); /* the .ctl stays until the last run has ended: clients may still ask */
    zy_kill_standbys();
    wf_close(&zy.listen);
    zy_tell(WF_GONE, 0, reason);
}

void zy_kill_standbys(void) {
    for (unsigned i = 0; i < ZY_SLOTS; i++) {
        int waiting = ZY_WAITING, preparing = ZY_PREPARING;
        if (zy.worker[i].pid != 0 &&
            (atomic_compare_exchange_strong(&zy.shared->state[i], &waiting, ZY_FREE) ||
             atomic_compare_exchange_strong(&zy.shared->state[i], &preparing, ZY_FREE)))
            kill(zy.worker[i].pid, SIGKILL);
    }
}

static void send_answer(int fd, const struct zy_ended *e) {
    uint8_t small[32];
    struct wf_buf out;
    wf_buf_init_fixed(&out, small, sizeof small);
    struct wf_exited m = { .kind = WF_END_UNKNOWN };
    if (e != NULL && WIFEXITED(e->status))
        m = (struct wf_exited){ WF_END_EXIT, (uint32_t)WEXITSTATUS(e->status), 0 };
    else if (e != NULL && WIFSIGNALED(e->status))
        m = (struct wf_exited){ WF_END_SIGNAL, (uint32_t)WTERMSIG(e->status),
                                WCOREDUMP(e->status) != 0 };
    wf_encode_exited(&out, &m);
    send_buf(fd, WF_ANSWER, &out);
}

static bool is_of(const struct zy_ended *e, const struct wf_started *who) {
    return e->pid == (pid_t)who->pid && e->cookie == who->cookie;
}

void zy_answer(const struct zy_ended *e) {
    for (unsigned i = 0; i < ASKS; i++) {
        if (asks[i].fd >= 0 && is_of(e, &asks[i].who)) {
            send_answer(zy.ctl[asks[i].fd], e);
            asks[i].fd = -1;
        }
    }
}

/* Known already: answered. Still alive: answered when reaped. Never ours: unknown. */
static void handle_ask(int ctl, const struct wf_message *m) {
    struct wf_started who;
    if (wf_decode_started(m->payload, m->header.size, &who) != NULL)
        return;
    zy_reap();
    for (unsigned i = 0; i < ZY_ENDED; i++) {
        if (zy.ended[i].pid != 0 && is_of(&zy.ended[i], &who)) {
            send_answer(zy.ctl[ctl], &zy.ended[i]);
            return;
        }
    }
    bool alive = false;
    for (unsigned i = 0; i < ZY_SLOTS && !alive; i++)
        alive = zy.worker[i].pid == (pid_t)who.pid;
    for (unsigned i = 0; i < ASKS && alive; i++) {
        if (asks[i].fd < 0) {
            asks[i].fd = ctl;
            asks[i].who = who;
            return;
        }
    }
    send_answer(zy.ctl[ctl], NULL);
}

static void drop_ctl(int i) {
    for (unsigned k = 0; k < ASKS; k++)
        if (asks[k].fd == i)
            asks[k].fd = -1;
    wf_close(&zy.ctl[i]);
}

static void accept_ctl(void) {
    int fd = accept4(zy.ctl_listen, NULL, NULL, SOCK_CLOEXEC);
    unsigned i = 0;
    while (i < CTLS && zy.ctl[i] >= 0)
        i++;
    if (fd >= 0 && (i == CTLS || wf_channel_check_peer(fd, NULL, NULL) < 0))
        wf_close(&fd);
    if (fd >= 0)
        zy.ctl[i] = wf_move_fd(fd, ZY_FD_BASE);
}

/* Messages here are small and sent whole; a peer that dawdles for 100 ms is dropped. */
static void serve_ctl(int i) {
    uint8_t storage[256];
    static struct wf_message m;
    if (wf_channel_receive(zy.ctl[i], &m, storage, sizeof storage, 100, NULL) <= 0) {
        drop_ctl(i);
        return;
    }
    if (m.header.type == WF_ASK && m.nfds == 0) {
        handle_ask(i, &m);
    } else if (m.header.type == WF_ADOPT && zy.serving) {
        wf_close(&zy.control);
        zy.control = zy.ctl[i];
        zy.ctl[i] = -1;
        zy_tell_ready();
        zy.stats_due = true;
    } else {
        drop_ctl(i);
    }
    wf_message_done(&m);
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
    for (unsigned i = 0; i < ASKS; i++)
        asks[i].fd = -1;
    memset(zy.worker, 0, sizeof zy.worker);
    memset(zy.ended, 0, sizeof zy.ended);
    zy_heap_candidate();
}

static void drain(int fd) {
    uint64_t n;
    if (read(fd, &n, sizeof n) < 0 && errno != EAGAIN)
        zy_tell(WF_NOTE, 1, "read: eventfd");
}

/* The socket is gone or replaced: nobody can reach us any more (the runtime directory was removed,
 * or a newer zygote took the route). */
static bool unreachable(void) {
    struct stat st;
    char name[48], path[160];
    wf_route_name(zy.key, zy.variant, false, name);
    wf_fmt(path, sizeof path, "%s/%s", zy.rundir, name);
    if (!zy.serving)
        return false;
    return stat(path, &st) < 0 ? errno == ENOENT : st.st_ino != zy.route_ino[0];
}

static bool done(void) {
    long long last = atomic_load(&zy.shared->last_us), now = wf_now_us();
    unsigned running = zy_count(ZY_TAKEN);
    if (zy.serving && zy.control < 0 && running == 0 && now - last > ORPHAN_US)
        zy_stop_serving("idle without a daemon");
    if (unreachable())
        zy_stop_serving("its socket was removed");
    if (zy.serving && running == 0 && now - last > QUIET_US && zy.target > 0) {
        zy.target = 0;
        zy_kill_standbys();
        zy.stats_due = true;
    }
    if (!zy.serving && running == 0)
        unlink_route(true);
    return !zy.serving && running == 0;
}

/* Fills the poll set; order as in `enum` below. */
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
    for (unsigned i = 0; i < ASKS; i++)
        asks[i].fd = -1;
    atomic_store(&zy.shared->last_us, wf_now_us());
    bool urgent = false;
    for (;;) {
        struct pollfd p[P_COUNT];
        if (zy_refill(urgent))
            return true;
        if (!zy.ready_told && zy.fork_failures >= FORK_TRIES) {
            zy_tell(WF_FAILED, 100, "no worker can be forked");
            _exit(1);
        }
        if (!zy.ready_told && zy.serving && atomic_load(&zy.shared->waiting) > 0 &&
            !zy_tell_ready())
            zy_stop_serving("given up before it was ready");
        tell_stats();
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
                serve_ctl(i);
        if (p[P_CTL_LISTEN].revents)
            accept_ctl();
        if (p[P_CONTROL].revents && serve_control())
            return false;
        zy_stops_look();
    }
}
