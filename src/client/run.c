#include "client/run.h"

#include "base/cleanup.h"
#include "base/place.h"
#include "channel/channel.h"
#include "client/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What became of one attempt at one route. */
enum attempt {
    ATTEMPT_STARTED,
    ATTEMPT_MISSING, /* nobody serves there */
    ATTEMPT_INPUTS,  /* the next variant may suit */
    ATTEMPT_STALE,
    ATTEMPT_REFUSED, /* the next broader route may suit */
    ATTEMPT_BROKEN,  /* python itself */
};

static enum attempt from_reason(const uint8_t *payload, uint32_t size, struct wf_err *err) {
    struct wf_text why;
    const char *wrong = wf_decode_text(payload, size, &why);
    if (wrong != NULL) {
        wf_err_msg(err, "the worker's answer: %s", wrong);
        return ATTEMPT_BROKEN;
    }
    wf_err_msg(err, "unsuitable (%u): %.*s", why.code,
               (int)(why.text.size < 250 ? why.text.size : 250), (const char *)why.text.data);
    return why.code == WF_WHY_INPUTS  ? ATTEMPT_INPUTS
           : why.code == WF_WHY_STALE ? ATTEMPT_STALE
                                      : ATTEMPT_REFUSED;
}

static enum attempt from_answer(struct wf_run *run, const struct wf_header *header,
                                const uint8_t *payload, struct wf_err *err) {
    if (header->type == WF_UNSUITABLE)
        return from_reason(payload, header->size, err);
    if (header->type != WF_STARTED) {
        wf_err_msg(err, "the worker's answer: unexpected message %u", header->type);
        return ATTEMPT_BROKEN;
    }
    /* No worker of ours says that it starts in another way than this. */
    int *passed = run->replies.passed;
    const char *wrong = wf_decode_started(payload, header->size, &run->started);
    if (wrong == NULL &&
        (header->nfds != WF_STARTED_FDS || (passed[WF_STARTED_FDS - 1] < 0 && !run->replies.lost)))
        wrong = "no descriptors";
    if (wrong != NULL) {
        wf_err_msg(err, "the worker's answer: %s", wrong);
        return ATTEMPT_BROKEN;
    }
    /* From here on the program is running, and is never started a second time. */
    int *const owned[] = { [WF_STARTED_TIE] = &run->tie,
                           [WF_STARTED_PIDFD] = &run->pidfd,
                           [WF_STARTED_UNTIE] = &run->untie };
    for (int i = 0; i < WF_STARTED_FDS; i++) {
        int fd = wf_steal_fd(&passed[i]);
        *owned[i] = fd >= 0 && fd < 3 ? wf_move_fd(fd, 3) : fd;
    }
    return ATTEMPT_STARTED;
}

static bool spin(const struct wf_run *run) {
    long long until = run->spins ? wf_now_us() + WF_SPIN_US : 0;
    char byte;
    while (run->spins && wf_now_us() < until) {
        if (syscall(SYS_recvfrom, run->replies.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) >=
            0)
            return true;
        syscall(SYS_sched_yield);
    }
    return false;
}

static enum attempt await_answer(struct wf_run *run, const struct wf_request *r,
                                 struct wf_err *err) {
    struct wf_header header;
    const uint8_t *payload;
    long long deadline = 0;
    int left = WF_STARTED_TIMEOUT_MS;
    run->spins = wf_many_cpus(r->cpus.data, r->cpus.size); /* else the worker could not run */
    for (;;) {
        struct pollfd item = { .fd = run->replies.fd, .events = POLLIN };
        int count = spin(run) ? 1 : poll(&item, 1, left);
        if (count == 0 || (count < 0 && errno != EINTR)) {
            wf_err_msg(err, "no answer from the worker in %d ms", WF_STARTED_TIMEOUT_MS);
            return ATTEMPT_BROKEN;
        }
        int result = wf_replies_next(&run->replies, &header, &payload, err);
        if (result < 0)
            return ATTEMPT_BROKEN;
        if (result > 0)
            return from_answer(run, &header, payload, err);
        /* Half a message, or a stop and continue: the clock is looked at only now. */
        long long now = wf_now_us();
        if (deadline == 0)
            deadline = now + WF_STARTED_TIMEOUT_MS * 1000ll;
        left = deadline > now ? (int)((deadline - now) / 1000) : 0;
    }
}

/* What stays the same from one attempt to the next. */
struct search {
    const struct wf_context *ctx;
    const struct wf_overrides *over;
    struct wf_collected *c;
    struct wf_run *run;
    bool collected;
};

/* A worker whose tie finds no room here is killed for that. For warmpy the worker knows, from its
 * limits; what else this process has open, only the kernel does. */
static int check_room(int fd, struct wf_err *err) {
    int spare[WF_STARTED_FDS], got = 0;
    while (got < WF_STARTED_FDS && (spare[got] = fcntl(fd, F_DUPFD_CLOEXEC, 0)) >= 0)
        got++;
    int result = got == WF_STARTED_FDS ? 0 : wf_err_sys(err, "fcntl", "F_DUPFD_CLOEXEC");
    while (got > 0)
        wf_close(&spare[--got]);
    return result;
}

/* All that a run needs and its route does not, done while the worker wakes up. That the directory
 * is ours alone is verified here too: nothing has been sent yet. */
static int get_ready(struct search *s, int connection, struct wf_err *err) {
    int dir;
    if (s->collected)
        return 0;
    if (!s->over->notices && check_room(connection, err) < 0)
        return -1;
    if (wf_rundir_open(s->run->rundir, false, &dir, err) < 0)
        return -1;
    wf_close(&dir);
    if (wf_request_collect(s->ctx, s->over, connection, s->c, err) != 0)
        return -1;
    s->collected = true;
    return 0;
}

static enum attempt try_route(struct search *s, bool with_preload, struct wf_err *err) {
    struct wf_run *run = s->run;
    char name[48];
    int fd;
    wf_route_name(run->key, run->variant, false, name);
    if (wf_channel_connect(run->rundir, name, &fd, err) < 0)
        return err->code == ENOENT || err->code == ECONNREFUSED ? ATTEMPT_MISSING : ATTEMPT_BROKEN;
    if (fd < 3) /* stdio was closed; those numbers must stay so */
        fd = wf_move_fd(fd, 3);
    wf_replies_init(&run->replies, fd);
    run->pidfd = run->tie = run->untie = -1;
    enum attempt result = ATTEMPT_BROKEN;
    /* A worker that refuses early closes before it has read everything; its reason is there to be
     * read all the same. */
    if (get_ready(s, fd, err) == 0 &&
        ((wf_request_send_run(fd, s->c, with_preload, err) == 0 &&
          wf_request_bound(s->c, fd, err) == 0 && wf_request_send_bounds(fd, s->c, err) == 0) ||
         err->code == EPIPE || err->code == ECONNRESET))
        result = await_answer(run, &s->c->request, err);
    if (result != ATTEMPT_STARTED)
        wf_replies_done(&run->replies);
    return result;
}

static enum attempt try_variants(struct search *s, bool with_preload, struct wf_err *err) {
    struct wf_run *run = s->run;
    enum attempt result = ATTEMPT_MISSING;
    memcpy(run->key, with_preload ? s->ctx->key : s->ctx->base_key, sizeof run->key);
    for (run->variant = 0; run->variant < WF_VARIANTS; run->variant++) {
        struct wf_err later;
        result = try_route(s, with_preload, run->variant == 0 ? err : &later);
        if (result == ATTEMPT_MISSING && run->variant > 0)
            return ATTEMPT_INPUTS; /* `err` still says which input */
        if (run->variant > 0)
            *err = later;
        if (result != ATTEMPT_INPUTS)
            return result;
    }
    return result;
}

int wf_run_start(const struct wf_context *ctx, const struct wf_overrides *over, const char *rundir,
                 struct wf_collected *c, struct wf_run *ret, enum wf_want *ret_want,
                 struct wf_err *err) {
    struct search s = { .ctx = ctx, .over = over, .c = c, .run = ret };
    bool is_base = memcmp(ctx->key, ctx->base_key, sizeof ctx->key) == 0, with_preload = !is_base;
    enum attempt result;
    *ret_want = WF_WANT_NOTHING;
    c->nfds = 0;
    c->cwd = -1;
    c->map = NULL;
    ret->ended = ret->looked = false;
    ret->master = ret->keeper = -1;
    memcpy(ret->rundir, rundir, strlen(rundir) + 1);
    for (;;) {
        result = try_variants(&s, with_preload, err);
        if (*ret_want == WF_WANT_NOTHING &&
            (result == ATTEMPT_MISSING || result == ATTEMPT_INPUTS || result == ATTEMPT_STALE))
            *ret_want = with_preload || is_base ? WF_WANT_CONTEXT : WF_WANT_BASE;
        /* Without its init section a program would not find its names: no broader route then. */
        if (result == ATTEMPT_STARTED || result == ATTEMPT_BROKEN || !with_preload ||
            ctx->init.size > 0)
            break;
        with_preload = false;
    }
    if (result == ATTEMPT_STARTED && over->notices && !over->waits)
        wf_close(&ret->replies.fd); /* as the worker has done */
    if (*ret_want != WF_WANT_NOTHING && !s.collected) {
        struct wf_err why;
        if (wf_request_collect(ctx, over, -1, c, &why) != 0) {
            *ret_want = WF_WANT_NOTHING;
            *err = why;
        }
    }
    return result == ATTEMPT_STARTED ? 0 : 1;
}

static void set_end(struct wf_run *run, const struct wf_exited *end) {
    run->end = *end;
    run->ended = true;
    if (run->untie >= 0) /* our end is no reason for the worker to be killed in the middle of its */
        fcntl(run->untie, F_SETFL, 0);
}

static void read_connection(struct wf_run *run) {
    struct wf_exited end;
    struct wf_header header;
    const uint8_t *payload;
    int result;
    while (!run->ended && (result = wf_replies_next(&run->replies, &header, &payload, NULL)) > 0) {
        if (header.type == WF_EXITED && wf_decode_exited(payload, header.size, &end) == NULL &&
            end.kind != WF_END_UNKNOWN)
            set_end(run, &end);
        else if (header.type == WF_TERMINAL && run->master < 0 &&
                 header.size == sizeof run->modes) {
            memcpy(&run->modes, payload, sizeof run->modes);
            run->master = wf_steal_fd(&run->replies.passed[0]);
        } else if (header.type == WF_KEEPER && run->keeper < 0)
            run->keeper = wf_steal_fd(&run->replies.passed[0]);
    }
}

/* An abstract socket. */
int wf_run_connect(const struct wf_run *run, uint32_t name) {
    static const char digits[] = "0123456789abcdef";
    struct {
        uint16_t family;
        char path[6];
    } address = { .family = AF_UNIX };
    for (int i = 5; i > 0; i--, name >>= 4)
        address.path[i] = digits[name & 15];
    uint32_t pid;
    int fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (syscall(SYS_connect, fd, &address, sizeof address) < 0 ||
                    wf_channel_check_peer(fd, &pid, NULL) < 0 || pid != run->started.pid))
        wf_close(&fd);
    return fd;
}

/* The worker has closed the connection before, if there was one: what lies in it is read. */
static void connect_again(struct wf_run *run, uint32_t name) {
    read_connection(run);
    wf_replies_done(&run->replies);
    wf_replies_init(&run->replies, wf_run_connect(run, name));
}

void wf_run_noticed(struct wf_run *run, uint64_t notice) {
    uint32_t what = (uint32_t)(notice >> 32) - (uint32_t)(WF_NOTICE(0, 0) >> 32);
    uint32_t value = (uint32_t)notice;
    struct wf_exited end = { .kind = value >> 8 & 15, .value = value & 0xff };
    if (what == WF_NOTICE_EXITED && (end.kind == WF_END_EXIT || end.kind == WF_END_SIGNAL)) {
        read_connection(run); /* what was said before */
        run->leave_at = value >> WF_NOTICE_NAME;
        set_end(run, &end);
    } else if (what == WF_NOTICE_CONNECT)
        connect_again(run, value);
    else if (what == WF_NOTICE_INPUT)
        run->looked = true;
}

void wf_run_find_pidfd(struct wf_run *run) {
    if (run->pidfd < 0 && run->started.pid > 0)
        run->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)run->started.pid, 0);
}

bool wf_run_check(struct wf_run *run, bool dead) {
    if (!run->ended && run->replies.fd >= 0)
        read_connection(run);
    if (!run->ended && (dead || (run->replies.fd < 0 && run->pidfd < 0))) {
        wf_ask_end(run, &run->end);
        run->ended = true;
    }
    return run->ended;
}

int wf_run_signal(const struct wf_run *run, int sig, void *info, struct wf_err *err) {
    long result = -1;
    if (run->pidfd < 0) {
        errno = EBADF;
    } else {
        result = syscall(SYS_pidfd_send_signal, run->pidfd, sig, info, 0);
        if (result < 0 && errno == EPERM && info != NULL)
            result = syscall(SYS_pidfd_send_signal, run->pidfd, sig, NULL, 0);
    }
    return result < 0 ? wf_err_sys(err, "pidfd_send_signal", NULL) : 0;
}

void wf_run_done(struct wf_run *run) {
    wf_replies_done(&run->replies);
    wf_close(&run->pidfd);
    wf_close(&run->tie);
    wf_close(&run->untie);
    wf_close(&run->master);
    wf_close(&run->keeper);
}
