#include "queue/pool.h"

#include "base/io.h"
#include "queue/arena.h"
#include "queue/futex.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define HIGH_FD 512     /* out of the way of programs that count on low numbers */
#define QUEUE_LONG 8    /* so many waiting tasks are worth a second quick worker */
#define TICK_NS 5000000 /* how long a task may wait for a worker that was believed to be quick */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

static int open_events(struct wf_pool *pool, struct wf_err *err) {
    pool->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (pool->epoll < 0)
        return wf_err_sys(err, "epoll_create1", "pool");
    pool->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->event < 0)
        return wf_err_sys(err, "eventfd", "pool");
    pool->event = wf_move_fd(pool->event, HIGH_FD);
    struct epoll_event ev = { .events = EPOLLIN, .data.u32 = WF_QUEUE_WORKERS };
    if (epoll_ctl(pool->epoll, EPOLL_CTL_ADD, pool->event, &ev) < 0)
        return wf_err_sys(err, "epoll_ctl", "eventfd");
    return 0;
}

struct wf_pool *wf_pool_new(unsigned max_workers, bool spins, struct wf_err *err) {
    struct wf_pool *pool = calloc(1, sizeof *pool + max_workers * sizeof *pool->worker);
    if (!pool) {
        wf_err_sys(err, "calloc", "pool");
        return NULL;
    }
    pool->max_workers = max_workers;
    pool->epoll = pool->event = -1;
    for (unsigned k = 0; k < max_workers; k++)
        pool->worker[k].pidfd = pool->worker[k].arena_fd = -1;
    pool->shared_size = sizeof *pool->shared + max_workers * sizeof *pool->shared->worker;
    pool->shared = mmap(NULL, pool->shared_size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool->shared == MAP_FAILED) {
        pool->shared = NULL;
        wf_err_sys(err, "mmap", "the memory shared with workers");
    } else if (open_events(pool, err) == 0) {
        pool->tasks.queue = &pool->shared->queue;
        pool->shared->workers = max_workers;
        pool->shared->spins = spins;
        pool->hot = true;
        return pool;
    }
    wf_pool_free(pool);
    return NULL;
}

static void release_worker(struct wf_pool *pool, unsigned k) {
    struct wf_worker *w = &pool->worker[k];
    if (w->pid != 0)
        pool->workers--;
    w->pid = 0;
    wf_close(&w->pidfd); /* epoll forgets it with its last descriptor */
}

void wf_pool_free(struct wf_pool *pool) {
    wf_pool_close(pool, true);
    for (unsigned k = 0; k < pool->max_workers; k++) {
        struct wf_worker *w = &pool->worker[k];
        while (w->pid != 0 && waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        release_worker(pool, k);
        wf_close(&w->arena_fd);
    }
    wf_close(&pool->epoll);
    wf_close(&pool->event);
    if (pool->shared)
        munmap(pool->shared, pool->shared_size);
    free(pool);
}

int wf_pool_prepare(struct wf_pool *pool, struct wf_err *err) {
    unsigned k = 0;
    while (k < pool->max_workers && (pool->worker[k].pid != 0 || pool->worker[k].forking))
        k++;
    if (k == pool->max_workers)
        return wf_err_msg(err, "the pool has its %u workers already", k);
    struct wf_worker_area *area = &pool->shared->worker[k];
    struct wf_worker *w = &pool->worker[k];
    if (w->arena_fd < 0 && (w->arena_fd = wf_arena_create(err)) < 0)
        return -1;
    w->forking = true;
    w->broken = false;
    w->done = w->busy_ns = 0;
    memset(&area->control, 0, sizeof area->control);
    area->returns.head = area->returns.tail = 0;
    area->results.head = area->results.tail = 0;
    return (int)k;
}

int wf_pool_adopt(struct wf_pool *pool, unsigned k, pid_t pid, struct wf_err *err) {
    struct wf_worker *w = &pool->worker[k];
    w->forking = false;
    if (pid < 0)
        return wf_err_sys(err, "fork", "worker");
    w->pid = pid;
    pool->workers++;
    struct epoll_event ev = { .events = EPOLLIN, .data.u32 = k };
    w->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (w->pidfd < 0 || epoll_ctl(pool->epoll, EPOLL_CTL_ADD, w->pidfd, &ev) < 0) {
        wf_err_sys(err, "pidfd_open", "worker");
        /* A worker whose death nobody would notice must not be. */
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        release_worker(pool, k);
        return -1;
    }
    return 0;
}

void wf_pool_forget(struct wf_pool *pool, unsigned k) {
    for (unsigned i = 0; i < pool->max_workers; i++) {
        wf_close(&pool->worker[i].pidfd);
        if (i != k)
            wf_close(&pool->worker[i].arena_fd);
        pool->worker[i].pid = 0;
    }
    pool->workers = 0;
    wf_close(&pool->epoll);
}

static const struct wf_control *control(const struct wf_pool *pool, unsigned k) {
    return &pool->shared->worker[k].control;
}

/* Will a worker that is awake look at the queue in a moment? */
static bool somebody_comes(const struct wf_pool *pool) {
    uint64_t now = wf_now_ns();
    for (unsigned k = 0; k < pool->max_workers; k++) {
        const struct wf_control *c = control(pool, k);
        if (pool->worker[k].pid == 0 || wf_queue_sleeps(&pool->shared->queue, k) ||
            c->phase != WF_PHASE_READY)
            continue;
        if (c->usual_ns < WF_QUICK_NS && (c->current == 0 || now - c->started_ns < 2 * WF_QUICK_NS))
            return true;
    }
    return false;
}

bool wf_pool_push(struct wf_pool *pool, uint64_t task, uint32_t kind, const void *first,
                  size_t first_size, const void *second, size_t second_size) {
    struct wf_queue *queue = &pool->shared->queue;
    if (!wf_tasks_push(&pool->tasks, task, kind, first, first_size, second, second_size))
        return false;
    if (wf_queue_sleepy(queue, pool->max_workers) &&
        (wf_tasks_waiting(&pool->tasks) > QUEUE_LONG || !somebody_comes(pool)))
        wf_futex_ring(&queue->bell, 1);
    return true;
}

int wf_pool_take(struct wf_pool *pool, unsigned k, struct wf_result *ret_result, uint8_t *data) {
    struct wf_worker *w = &pool->worker[k];
    struct wf_worker_area *area = &pool->shared->worker[k];
    if (w->pid == 0 || w->broken)
        return 0;
    int got = wf_results_take(&area->results, ret_result, data);
    if (got < 0) {
        w->broken = true;
        kill(w->pid, SIGKILL);
        return 0;
    }
    if (got > 0) {
        w->done++;
        w->busy_ns += ret_result->ended_ns - ret_result->started_ns;
    }
    if (atomic_load_explicit(&area->control.ring_full, memory_order_seq_cst)) {
        atomic_store_explicit(&area->control.ring_full, 0, memory_order_seq_cst);
        wf_futex_ring(&area->control.drained, 1);
    }
    return got;
}

bool wf_pool_has_results(const struct wf_pool *pool) {
    for (unsigned k = 0; k < pool->max_workers; k++)
        if (pool->worker[k].pid != 0 && !pool->worker[k].broken &&
            wf_results_ready(&pool->shared->worker[k].results))
            return true;
    return false;
}

int wf_pool_runs(const struct wf_pool *pool, uint64_t task, uint64_t *ret_started_ns) {
    for (unsigned k = 0; k < pool->max_workers; k++)
        if (pool->worker[k].pid != 0 && control(pool, k)->current >> 2 == task) {
            *ret_started_ns = control(pool, k)->started_ns;
            return (int)k;
        }
    return -1;
}

bool wf_pool_doom(struct wf_pool *pool, uint64_t task) {
    uint64_t started;
    int k = wf_pool_runs(pool, task, &started);
    uint64_t running = task << 2;
    if (k < 0 || !atomic_compare_exchange_strong(&pool->shared->worker[k].control.current, &running,
                                                 running | WF_DOOMED))
        return false;
    kill(pool->worker[k].pid, SIGKILL);
    return true;
}

/* Has it ended? It stays to be waited for, so that what it has sent can be taken first. */
static bool ended(pid_t pid) {
    siginfo_t info = { 0 };
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
        return errno == ECHILD; /* the program has reaped it itself, or ignores SIGCHLD */
    return info.si_pid != 0;
}

static void reap(struct wf_pool *pool, unsigned k, struct wf_death *ret) {
    struct wf_worker *w = &pool->worker[k];
    struct wf_control *c = &pool->shared->worker[k].control;
    struct rusage usage = { 0 };
    int status = -1;
    pid_t got;
    while ((got = wait4(w->pid, &status, 0, &usage)) < 0 && errno == EINTR)
        ;
    uint64_t lost = wf_tasks_lost(&pool->tasks, k);
    *ret = (struct wf_death){
        .k = k,
        .pid = w->pid,
        .status = got < 0 ? -1 : status,
        .leaving = c->phase == WF_PHASE_LEAVING,
        .ready = c->phase != WF_PHASE_FORKED,
        .task = lost ? lost : c->current >> 2,
        .started_ns = c->started_ns,
        .peak_kb = usage.ru_maxrss,
        .cpu_ns = ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) *
                      1000000000u +
                  ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000u,
    };
    wf_queue_awake(&pool->shared->queue, k);
    release_worker(pool, k);
    wf_close(&w->arena_fd);
}

bool wf_pool_reap(struct wf_pool *pool, struct wf_death *ret_death) {
    for (unsigned k = 0; k < pool->max_workers; k++) {
        const struct wf_worker *w = &pool->worker[k];
        if (w->pid == 0 || !ended(w->pid))
            continue;
        if (!w->broken && wf_results_ready(&pool->shared->worker[k].results))
            continue;
        reap(pool, k, ret_death);
        return true;
    }
    return false;
}

int wf_pool_idle(const struct wf_pool *pool) {
    int idle = 0;
    for (unsigned k = 0; k < pool->max_workers; k++)
        if (pool->worker[k].pid != 0)
            idle += wf_queue_sleeps(&pool->shared->queue, k) ||
                    control(pool, k)->phase == WF_PHASE_FORKED || control(pool, k)->current == 0;
    return idle - (int)wf_tasks_waiting(&pool->tasks);
}

void wf_pool_close(struct wf_pool *pool, bool now) {
    if (pool->shared) {
        atomic_store_explicit(&pool->shared->queue.closed, 1, memory_order_seq_cst);
        wf_futex_ring(&pool->shared->queue.bell, INT32_MAX);
    }
    for (unsigned k = 0; now && k < pool->max_workers; k++)
        if (pool->worker[k].pid != 0)
            kill(pool->worker[k].pid, SIGKILL);
}

/* Before the parent sleeps: what waits gets its workers now, whatever was believed of those that
 * are awake. */
static void wake_for_waiting(struct wf_pool *pool) {
    struct wf_queue *queue = &pool->shared->queue;
    size_t waiting = wf_tasks_waiting(&pool->tasks);
    if (waiting > 0 && wf_queue_sleepy(queue, pool->max_workers) &&
        (waiting > QUEUE_LONG || !somebody_comes(pool)))
        wf_futex_ring(&queue->bell, waiting < INT32_MAX ? (int)waiting : INT32_MAX);
}

static bool arm(struct wf_pool *pool, uint32_t how) {
    wake_for_waiting(pool);
    atomic_store_explicit(&pool->shared->queue.parent_sleeps, how, memory_order_seq_cst);
    if (!wf_pool_has_results(pool))
        return true;
    atomic_store_explicit(&pool->shared->queue.parent_sleeps, WF_PARENT_AWAKE,
                          memory_order_seq_cst);
    return false;
}

bool wf_pool_arm_event(struct wf_pool *pool) {
    return pool->leader || arm(pool, WF_PARENT_ON_EVENT);
}

bool wf_pool_arm_futex(struct wf_pool *pool) { return arm(pool, WF_PARENT_ON_FUTEX); }

/* A wait is cut short while a task may be stuck behind one that takes longer than its predecessors.
 */
static int64_t capped(struct wf_pool *pool, int64_t timeout_ns) {
    bool risk = wf_tasks_waiting(&pool->tasks) > 0 &&
                wf_queue_sleepy(&pool->shared->queue, pool->max_workers);
    return risk && (timeout_ns < 0 || timeout_ns > TICK_NS) ? TICK_NS : timeout_ns;
}

bool wf_pool_sleep_event(struct wf_pool *pool, int64_t timeout_ns) {
    struct epoll_event ev[8];
    bool deaths = false;
    timeout_ns = capped(pool, timeout_ns);
    int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;
    int n = epoll_wait(pool->epoll, ev, 8, ms > INT32_MAX ? INT32_MAX : (int)ms);
    for (int i = 0; i < n; i++) {
        uint64_t count;
        if (ev[i].data.u32 != WF_QUEUE_WORKERS)
            deaths = true;
        else
            while (read(pool->event, &count, sizeof count) < 0 && errno == EINTR)
                ;
    }
    return deaths;
}

void wf_pool_sleep_futex(struct wf_pool *pool, int64_t timeout_ns) {
    wf_futex_wait(&pool->shared->queue.parent_sleeps, WF_PARENT_ON_FUTEX, capped(pool, timeout_ns));
}

bool wf_pool_spin(const struct wf_pool *pool, uint64_t begin_ns) {
    if (!pool->hot)
        return false;
    do {
        for (int i = 0; i < 16; i++) {
            if (wf_pool_has_results(pool) || atomic_load(&pool->kicked))
                return true;
            wf_relax();
        }
    } while (wf_now_ns() - begin_ns < WF_SPIN_CALLER_NS);
    return false;
}

void wf_pool_waited(struct wf_pool *pool, uint64_t begin_ns) {
    pool->hot = wf_now_ns() - begin_ns < WF_SPIN_CALLER_NS;
}

static void wake_event(struct wf_pool *pool) {
    uint64_t one = 1;
    while (write(pool->event, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void wf_pool_lead(struct wf_pool *pool, bool on) {
    _Atomic uint32_t *sleeps = &pool->shared->queue.parent_sleeps;
    pool->leader = on;
    if (on) {
        atomic_store_explicit(sleeps, WF_PARENT_AWAKE, memory_order_seq_cst);
    } else {
        /* On behalf of the thread that sleeps on the event. */
        atomic_store_explicit(sleeps, WF_PARENT_ON_EVENT, memory_order_seq_cst);
        if (wf_pool_has_results(pool)) {
            atomic_store_explicit(sleeps, WF_PARENT_AWAKE, memory_order_seq_cst);
            wake_event(pool);
        }
    }
}

void wf_pool_kick(struct wf_pool *pool) {
    atomic_store(&pool->kicked, true);
    uint32_t how = atomic_exchange_explicit(&pool->shared->queue.parent_sleeps, WF_PARENT_AWAKE,
                                            memory_order_seq_cst);
    if (how == WF_PARENT_ON_FUTEX)
        wf_futex_wake(&pool->shared->queue.parent_sleeps, 1);
    else
        wake_event(pool);
}

void wf_pool_return(struct wf_pool *pool, unsigned k, int arena_fd, uint64_t offset, size_t size) {
    struct wf_returns *r = &pool->shared->worker[k].returns;
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&r->head, memory_order_acquire) >= WF_RETURNS) {
        wf_arena_drop(arena_fd, offset,
                      size); /* its place in the file is never used again; its memory is free */
        return;
    }
    r->offset[tail % WF_RETURNS] = offset;
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
}
