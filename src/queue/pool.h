/* The parent's end of a pool: its workers, what it hands to them, what they hand back, and their
 * deaths.
 *
 * Forking itself is the caller's: an interpreter has its own steps around it. Nothing here is
 * thread-safe but wf_pool_sleep_event and wf_pool_sleep_futex, the two calls that block: everything
 * else is for whoever holds the interpreter's lock. Only the process that made a pool may use it;
 * forked children forget it with wf_pool_forget. */
#pragma once

#include "base/err.h"
#include "queue/results.h"
#include "queue/tasks.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct wf_worker {
    pid_t pid;    /* 0: there is none */
    int pidfd;    /* -1 where the kernel gave none */
    int arena_fd; /* its results of more than WF_QUEUE_PAYLOAD bytes; a new one for each process */
    bool forking; /* its place is taken: between prepare and adopt other threads may run */
    bool broken;  /* what it wrote to its ring makes no sense */
    uint64_t done, busy_ns;
};

struct wf_pool {
    struct wf_shared *shared;
    size_t shared_size;
    unsigned max_workers, workers; /* how many there may be, and are */
    int epoll, event;
    bool leader; /* a thread is collecting: see wf_pool_lead */
    bool hot;    /* the last wait was so short that the next one is begun awake */
    _Atomic bool kicked;
    struct wf_tasks tasks;
    struct wf_worker worker[];
};

/* How a worker ended. */
struct wf_death {
    unsigned k;
    pid_t pid;
    int status;    /* as of wait(2); -1: somebody else has reaped it, nobody knows */
    bool leaving;  /* it had said that it would, having run enough tasks */
    bool ready;    /* it had finished its set-up */
    uint64_t task; /* what it was running, 0: nothing */
    uint64_t started_ns;
    long peak_kb;
    uint64_t cpu_ns; /* of its whole life */
};

/* A pool without workers; NULL on failure. With `spins`, idle workers may wait awake for a moment.
 * Freed by wf_pool_free, which kills and reaps what still lives. */
struct wf_pool *wf_pool_new(unsigned max_workers, bool spins, struct wf_err *err);
void wf_pool_free(struct wf_pool *pool);

/* Between these two the caller forks. Prepare finds a place for a worker and clears it, returns its
 * number k; -1 when there is none. Adopt is the parent's part after fork, with the child's pid, or
 * -1 when fork failed. Forget is the child's part: it closes what belongs to the parent, and leaves
 * the shared memory, the event and its own arena. */
int wf_pool_prepare(struct wf_pool *pool, struct wf_err *err);
int wf_pool_adopt(struct wf_pool *pool, unsigned k, pid_t pid, struct wf_err *err);
void wf_pool_forget(struct wf_pool *pool, unsigned k);

/* Queues a task (see wf_tasks_push) and wakes a worker if one is needed. */
bool wf_pool_push(struct wf_pool *pool, uint64_t task, uint32_t kind, const void *first,
                  size_t first_size, const void *second, size_t second_size);

/* The next result of worker `k`: 1, or 0. `data` has room for WF_QUEUE_PAYLOAD. A worker that wrote
 * nonsense is killed. */
int wf_pool_take(struct wf_pool *pool, unsigned k, struct wf_result *ret_result, uint8_t *data);
bool wf_pool_has_results(const struct wf_pool *pool);

/* The number of the worker that runs `task`, or -1. */
int wf_pool_runs(const struct wf_pool *pool, uint64_t task, uint64_t *ret_started_ns);

/* Kills the worker that runs `task`, and nobody else's. False: no worker runs it, or it is just
 * finishing. */
bool wf_pool_doom(struct wf_pool *pool, uint64_t task);

/* Reports a worker that has ended and was not yet reported. Everything it had sent was taken
 * before: false while its ring still has results. */
bool wf_pool_reap(struct wf_pool *pool, struct wf_death *ret_death);

/* Idle workers: those asleep, less the tasks that wait for them. */
int wf_pool_idle(const struct wf_pool *pool);

/* Workers leave when the queue is empty; with `now`, they are killed. */
void wf_pool_close(struct wf_pool *pool, bool now);

/* Waiting. `arm` is called with the interpreter's lock and says whether there is something to wait
 * for; then, without the lock, the sleep of the same name. At most one thread sleeps on the event,
 * and at most one leads.
 *
 * The event also ends with the death of a worker. A leader does not see deaths: whoever handles
 * them calls wf_pool_kick. While there is a leader, results wake it alone. */
bool wf_pool_arm_event(struct wf_pool *pool);
bool wf_pool_sleep_event(struct wf_pool *pool,
                         int64_t timeout_ns); /* true: a worker may have died */
bool wf_pool_arm_futex(struct wf_pool *pool);
void wf_pool_sleep_futex(struct wf_pool *pool, int64_t timeout_ns);
/* Before `arm` and without the lock: waits awake for a moment, if waits have been short lately.
 * True: there is something. `begin_ns` is when the wait began; wf_pool_waited is told at its end.
 */
bool wf_pool_spin(const struct wf_pool *pool, uint64_t begin_ns);
void wf_pool_waited(struct wf_pool *pool, uint64_t begin_ns);
void wf_pool_lead(struct wf_pool *pool, bool on);
void wf_pool_kick(struct wf_pool *pool);

/* The range at `offset` of worker k's arena is free again; `arena_fd` tells whether it is still the
 * same worker's. */
void wf_pool_return(struct wf_pool *pool, unsigned k, int arena_fd, uint64_t offset, size_t size);
