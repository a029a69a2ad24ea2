/* A worker: makes ready, waits for one request, and becomes the caller's program. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include "base/io.h"
#include "channel/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define POINTERS 1024   /* argv and envp that need no allocation */
#define RECEIVE_MS 5000 /* a client sends its request at once or not at all */

static uint8_t
    storage[WF_INLINE_MAX + 4096]; /* the request; argv and environ stay in it for life */
static const char *argv_storage[POINTERS];
static char *envp_storage[POINTERS];
static uint8_t bounds_storage[WF_BOUNDS_MAX];
static struct wf_message message, bounds;
static struct zy_job job;
static int child_hook_connection = -1; /* what a child of the program must close, -1: nothing */

/* A child must not hold the connection, if there is one: the status is none of its business. */
static void close_in_child(void) {
    int fd = child_hook_connection;
    child_hook_connection = -1;
    if (fd >= 0 && zy_is_connection(&job, fd))
        close(fd);
    job.connection = -1;
}

uint64_t zy_own_start_time(void) {
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    wf_close(&fd);
    if (got <= 0)
        return 0;
    text[got] = '\0';
    char *at = strrchr(text, ')'); /* the name may hold anything; field 22 counts from behind it */
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

/* Points argv and envp into the request's strings. The codec has checked that there are that many.
 */
bool zy_job_point(struct zy_job *j) {
    const struct wf_request *r = &j->request;
    size_t envc = (size_t)r->envc + zy_changes_room() + 1;
    const char **argv = r->argc < POINTERS ? argv_storage : malloc((r->argc + 1) * sizeof *argv);
    char **envp = envc < POINTERS ? envp_storage : malloc((envc + 1) * sizeof *envp);
    if (argv == NULL || envp == NULL)
        return false;
    char *s = (char *)(uintptr_t)r->strings.data;
    for (uint32_t i = 0; i < r->argc; i++, s += strlen(s) + 1)
        argv[i] = s;
    argv[r->argc] = NULL;
    for (uint32_t i = 0; i < r->envc; i++, s += strlen(s) + 1)
        envp[i] = s;
    envp[r->envc] = NULL;
    j->argv = argv;
    j->envp = envp;
    j->text = r->target < r->argc ? argv[r->target] + r->target_offset : NULL;
    return true;
}

static void say_unsuitable(int fd, unsigned why, const struct wf_err *err) {
    uint8_t text_storage[512];
    struct wf_buf out;
    wf_buf_init_fixed(&out, text_storage, sizeof text_storage);
    struct wf_text m = { why, { (const uint8_t *)err->text, (uint32_t)strlen(err->text) } };
    if (wf_encode_text(&out, &m)) {
        struct iovec iov = { out.data, out.size };
        wf_channel_send(fd, WF_UNSUITABLE, 0, &iov, 1, NULL, 0, NULL);
    }
    atomic_fetch_add(&zy.shared->refused, 1);
}

/* The client has something to say first; it says it at once. */
static void await_end(int connection) {
    struct pollfd p = { .fd = connection, .events = POLLIN };
    poll(&p, 1, RECEIVE_MS);
}

/* The program finds nothing of ours open. A client that cannot be told by signals is told over the
 * connection, which stays then. */
static void let_go(struct zy_job *j) {
    bool together = !j->notices || j->connection == ZY_FD_CONNECTION;
    for (int i = 0; i < WF_STARTED_FDS; i++)
        together = together && j->given[i] == ZY_FD_GIVEN + i;
    if (together)
        syscall(SYS_close_range, ZY_FD_GIVEN, j->notices ? ZY_FD_CONNECTION : ZY_FD_CONNECTION - 1,
                0);
    for (int i = 0; i < WF_STARTED_FDS && !together; i++)
        close(j->given[i]);
    if (!together && j->notices)
        close(j->connection);
    if (j->notices)
        j->connection = -1;
    child_hook_connection = j->connection;
}

/* From here on nothing is ever retried. */
static void say_started(struct zy_job *j) {
    uint8_t small[32];
    struct wf_buf out;
    wf_buf_init_fixed(&out, small, sizeof small);
    struct wf_started m = { (uint32_t)j->owner, zy.cookie };
    wf_encode_started(&out, &m);
    struct iovec iov = { out.data, out.size };
    if (wf_channel_send(j->connection, WF_STARTED, 0, &iov, 1, j->given, WF_STARTED_FDS, NULL) < 0)
        _exit(1); /* nobody wants this program */
    if (message.header.flags & WF_F_WAIT)
        await_end(j->connection);
    let_go(j);
}

/* Whether `fd` is still the connection: the program may have closed it and opened something of its
 * own there. No other socket of this process has the client as its peer. */
bool zy_is_connection(const struct zy_job *j, int fd) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (uint32_t)peer.pid == j->client_pid;
}

/* Decodes what was received into `j`; NULL or what is wrong. */
static const char *decode(struct zy_job *j, const struct wf_message *m) {
    if (m->header.type != WF_RUN)
        return "not a run";
    const char *wrong = wf_decode_request(m->payload, m->header.size, &j->request);
    if (wrong == NULL && wf_request_nfds(WF_RUN, &j->request) != (int)m->nfds)
        wrong = "descriptor count";
    if (wrong == NULL && !zy_job_point(j))
        wrong = "out of memory";
    return wrong;
}

static unsigned become_bounded(struct zy_job *j, int connection, struct wf_err *err) {
    if (!j->request.bounded) {
        if (wf_channel_receive(connection, &bounds, bounds_storage, sizeof bounds_storage,
                               RECEIVE_MS, err) <= 0)
            _exit(0); /* the client has gone, or runs the program itself */
        const char *wrong = bounds.header.type != WF_BOUNDS || bounds.nfds > 0
                                ? "not the bounds"
                                : wf_decode_bounds(bounds.payload, bounds.header.size, &j->request);
        if (wrong != NULL)
            return wf_err_msg(err, "bad request: %s", wrong), WF_WHY_SETUP;
    }
    unsigned why = j->rehearsal ? 0 : zy_suits_bounds(&j->request, err);
    return why != 0 ? why : zy_setup_bounds(j, err);
}

/* What a program must not find open: lies together (gather_fds), so that one call closes it. */
static void close_zygote_fds(void) {
    syscall(SYS_close_range, zy.listen, zy.watch, 0);
    zy.listen = zy.wake = zy.refill = zy.opened = zy.both = zy.watch = -1;
}

/* One attempt to serve the connection. Returns when it was refused with nothing touched. */
static void serve(int connection) {
    struct wf_err err = { 0 };
    job = (struct zy_job){ .connection = connection, .owner = zy.own_pid };
    for (int i = 0; i < WF_STARTED_FDS; i++)
        job.given[i] = ZY_FD_GIVEN + i;
    if (wf_channel_check_peer(connection, &job.client_pid, &err) < 0 ||
        wf_channel_receive(connection, &message, storage, sizeof storage, RECEIVE_MS, &err) <= 0)
        return;
    const char *wrong = decode(&job, &message);
    if (zy.learning && wrong == NULL) {
        job.request.mode = WF_MODE_COMMAND;
        job.text = "pass";
    }
    job.fds = message.fds;
    job.nfds = message.nfds;
    unsigned why = 0;
    if (wrong != NULL) {
        wf_err_msg(&err, "bad request: %s", wrong);
        why = WF_WHY_SETUP;
    } else if (!zy.tied) {
        wf_err_msg(&err, "too many programs of this user run at once");
        why = WF_WHY_LIMITS;
    } else {
        why = zy_suits(&job, &err);
    }
    if (why != 0) {
        say_unsuitable(connection, why, &err);
        wf_message_done(&message);
        return;
    }
    memcpy(zy.shared->kinds, job.kinds, sizeof job.kinds);
    job.notices = (message.header.flags & WF_F_NOTICES) != 0;
    if (job.notices)
        atomic_store(&zy.shared->client[zy.slot], job.client_pid);
    prctl(PR_SET_PDEATHSIG,
          0); /* from here on the program's life is its client's, not the zygote's */
    close_zygote_fds();
    why = zy_setup(&job, &err);
    if (why == 0)
        why = become_bounded(&job, job.connection, &err);
    if (why != 0) { /* this process is half somebody else's now */
        say_unsuitable(job.connection, why, &err);
        _exit(0);
    }
    if (!zy.learning) {
        atomic_fetch_add(&zy.shared->served, 1);
        zy_foresee_note((pid_t)job.client_pid);
    }
    say_started(&job);
    zy_terminal_arm(&job, message.header.flags);
    zy_run(&job);
    zy_finish(&job);
}

/* Takes this worker out of the pool; wakes the zygote at once only when that was the last. */
static bool take(unsigned slot) {
    int expected = ZY_WAITING;
    if (!atomic_compare_exchange_strong(&zy.shared->state[slot], &expected, ZY_TAKEN))
        return false; /* the zygote is about to kill us: idle for long */
    uint64_t one = 1;
    if (atomic_fetch_sub(&zy.shared->waiting, 1) <= 1) {
        if (write(zy.wake, &one, sizeof one) < 0)
            return true; /* it will notice at our end */
    } else {
        struct itimerspec after = { .it_value = { 0, ZY_REFILL_US * 1000L } };
        timerfd_settime(zy.refill, 0, &after, NULL);
    }
    return true;
}

/* What would otherwise be the same secret or sequence in every worker. `random` reseeds itself
 * after a fork; `uuid`, `secrets` and `tempfile` ask the system. */
static void reseed(void) {
    unsigned char secret[32];
    PyObject *process = zp_get(zp.modules, "multiprocessing.process");
    if (process != NULL && getentropy(secret, sizeof secret) == 0) {
        PyObject *current = PyObject_CallMethod(process, "current_process", NULL);
        PyObject *key = PyBytes_FromStringAndSize((const char *)secret, sizeof secret);
        if (current == NULL || key == NULL || PyObject_SetAttrString(current, "authkey", key) < 0)
            PyErr_Clear();
        Py_XDECREF(current);
        Py_XDECREF(key);
    }
    zy_reseed();
    PyErr_Clear();
}

/* Puts what is needed until a request has come on neighbouring numbers, the inputs' watch last. */
static void gather_fds(void) {
    int *const fds[] = { &zy.listen, &zy.wake, &zy.refill, &zy.opened, &zy.both, &zy.watch };
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (*fds[i] >= 0 && dup3(*fds[i], ZY_FD_GATHER + (int)i, O_CLOEXEC) < 0)
            _exit(8);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] < 0)
            continue;
        close(*fds[i]);
        *fds[i] = ZY_FD_GATHER + (int)i;
    }
}

/* The first object of a size finds the page to put it on copied. */
static void touch_pools(void) {
    for (size_t size = 16; size <= 512; size += 16)
        PyObject_Free(PyObject_Malloc(size));
}

static void become_standby(unsigned slot) {
    struct sched_param param = { 0 };
    zy.own_pid = getpid();
    setsid(); /* a group of its own: os.kill(0, …) must not reach the zygote */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != zy.zygote_pid)
        _exit(0); /* it died before the line above */
    zy_heap_worker();
    if (zy.idle_reversible && !zy.hurried && !zy.learning)
        sched_setscheduler(0, SCHED_IDLE, &param);
    wf_close(&zy.control);
    wf_close(&zy.ctl_listen);
    wf_close(&zy.signals);
    for (unsigned i = 0; i < sizeof zy.ctl / sizeof *zy.ctl; i++)
        wf_close(&zy.ctl[i]);
    zy.cookie = zy_own_start_time();
    atomic_store(&zy.shared->cookie[slot], zy.cookie);
    atomic_store(&zy.shared->client[slot], 0);
    zy_tie_prepare(!zy.learning);
    pthread_atfork(NULL, NULL, close_in_child);
    zy_terminal_prepare();
    zy_foresee_standby();
    gather_fds();
}

_Noreturn void zy_worker_main(unsigned slot) {
    struct sched_param param = { 0 };
    int client = -1;
    become_standby(slot);
    if (zy.learning)
        client = zy_pages_client();
    struct zy_stdkind kinds[3];
    memcpy(kinds, zy.shared->kinds, sizeof kinds);
    zy_heap_freeze_again();
    if (zp_main_reset() < 0 || zy_stdio_prepare(kinds) < 0)
        _exit(3);
    reseed();
    if (zy.learning) {
        serve(client);
        _exit(0);
    }
    zy_pages_copy();
    touch_pools();
    sched_setscheduler(0, SCHED_OTHER, &param);
    atomic_store(&zy.shared->state[slot], ZY_WAITING);
    uint64_t one = 1;
    if (atomic_fetch_add(&zy.shared->waiting, 1) == 0 && write(zy.wake, &one, sizeof one) < 0)
        _exit(4);
    for (;;) {
        zy_foresee_wait();
        int connection = accept4(zy.listen, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (connection < 0)
            _exit(5);
        if (!take(slot))
            _exit(0);
        if (dup3(connection, ZY_FD_CONNECTION, O_CLOEXEC) < 0)
            _exit(5);
        close(connection);
        serve(ZY_FD_CONNECTION);
        close(ZY_FD_CONNECTION); /* refused, with nothing touched: as good as new */
        atomic_store(&zy.shared->state[slot], ZY_WAITING);
        atomic_fetch_add(&zy.shared->waiting, 1);
    }
}
