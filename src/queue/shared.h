/* The memory that a pool's parent and its workers share, and nothing else of them.
 *
 * One anonymous shared mapping, made before the first worker is forked: it has no name and no
 * descriptor, is inherited by every worker and gone with the last of them. No lock lies in it. A
 * worker may be killed at any instruction; what it leaves behind is read by the parent in these
 * states only:
 *
 *   queue of tasks   one producer, the parent; a worker takes an entry by one compare-and-swap,
 * which also says who took it worker's control which task the worker runs, and whether the parent
 * has doomed it ring of results  one per worker: one producer, one consumer; bytes behind the tail
 * do not exist
 */
#pragma once

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    WF_QUEUE_WORKERS = 1024,    /* most workers of one pool */
    WF_QUEUE_ENTRIES = 1 << 12, /* tasks that wait in the queue */
    WF_QUEUE_BYTES = 1 << 20,   /* and their bytes */
    WF_QUEUE_PAYLOAD = 1 << 16, /* most bytes of one message; larger ones travel in an arena */
    WF_RESULTS_BYTES = 1 << 18, /* ring of one worker */
    WF_RETURNS = 512,           /* ranges on their way back to a worker's arena */
    WF_DOOMED = 1,
    WF_FINISHING = 2, /* bits of wf_control.current: see there */
};

/* Who has an entry: bits 0 to 15 of its state. The rest is its number, so that an old state never
 * looks like new. */
enum { WF_ENTRY_QUEUED = 0, WF_ENTRY_FREE = 1, WF_ENTRY_CLAIMED = 2 /* + number of the worker */ };

struct wf_entry {
    _Atomic uint64_t state; /* number << 16 | who */
    uint64_t task;          /* its id; never 0 */
    uint32_t at, size;      /* in wf_queue.data */
    uint32_t kind, spare;
};

struct wf_queue {
    alignas(64) _Atomic uint64_t tail; /* entries ever published; the parent's */
    alignas(64) _Atomic uint64_t
        head; /* entries before this one were taken; moved by whoever notices */
    alignas(64) _Atomic uint32_t bell; /* futex: workers sleep on it */
    _Atomic uint64_t
        asleep[WF_QUEUE_WORKERS / 64]; /* a bit for each worker that does, or is about to */
    _Atomic uint32_t closed;           /* workers are to leave when the queue is empty */
    alignas(64) _Atomic uint32_t parent_sleeps; /* WF_PARENT_*; a futex */
    alignas(64) struct wf_entry entry[WF_QUEUE_ENTRIES];
    alignas(64) uint8_t data[WF_QUEUE_BYTES];
};

/* wf_queue.parent_sleeps: how the next result wakes the parent. */
enum { WF_PARENT_AWAKE, WF_PARENT_ON_EVENT, WF_PARENT_ON_FUTEX };

/* A worker whose tasks take less is not worth waking another one for: it is back sooner. */
#define WF_QUICK_NS 20000u

/* How long somebody waits awake before it sleeps, where the last wait was not longer. To be woken
 * takes 5 to 70 us, and most of that is the processor's: it sleeps too. A worker waits for the
 * caller's next task, and a caller for its result; the latter includes the worker's waking. */
#define WF_SPIN_WORKER_NS 50000u
#define WF_SPIN_CALLER_NS 200000u

enum wf_phase { WF_PHASE_FORKED, WF_PHASE_READY, WF_PHASE_LEAVING };

struct wf_control {
    /* id << 2 of the task that the worker runs, else 0. The parent dooms a task, and a worker says
     * that it has finished it, by setting one of the two bits with a compare-and-swap; only one of
     * them succeeds, and a worker whose task is doomed waits for its death. So a parent that kills
     * a task never kills the next one. */
    alignas(64) _Atomic uint64_t current;
    _Atomic uint64_t started_ns; /* of that task, CLOCK_MONOTONIC */
    _Atomic uint32_t phase;      /* enum wf_phase */
    _Atomic uint32_t usual_ns;   /* what a task has taken lately, a moving average */
    _Atomic uint32_t drained;    /* futex: the worker sleeps on it while its ring is full */
    _Atomic uint32_t ring_full;  /* 1: it does, or is about to */
};

/* In front of each result in a ring; followed by `size` bytes. */
struct wf_result {
    uint64_t task;
    uint64_t started_ns, ended_ns, cpu_ns;
    uint32_t peak_kb;
    uint32_t kind, size;
    uint32_t spare;
};

struct wf_results {
    alignas(64) _Atomic uint64_t tail; /* bytes ever written; the worker's */
    alignas(64) _Atomic uint64_t head; /* bytes ever read; the parent's */
    alignas(64) uint8_t data[WF_RESULTS_BYTES];
};

/* Offsets in the worker's arena that the parent has let go of: one producer, the parent, and one
 * consumer. */
struct wf_returns {
    alignas(64) _Atomic uint64_t tail;
    alignas(64) _Atomic uint64_t head;
    uint64_t offset[WF_RETURNS];
};

struct wf_worker_area {
    struct wf_control control;
    struct wf_returns returns;
    struct wf_results results;
};

/* Does anybody sleep, among the first `workers`? */
static inline int wf_queue_sleepy(const struct wf_queue *queue, unsigned workers) {
    for (unsigned i = 0; i < (workers + 63) / 64; i++)
        if (atomic_load_explicit(&queue->asleep[i], memory_order_seq_cst))
            return 1;
    return 0;
}

static inline int wf_queue_sleeps(const struct wf_queue *queue, unsigned k) {
    return (int)(atomic_load_explicit(&queue->asleep[k / 64], memory_order_seq_cst) >> k % 64 & 1);
}

static inline void wf_queue_sleep(struct wf_queue *queue, unsigned k) {
    atomic_fetch_or_explicit(&queue->asleep[k / 64], (uint64_t)1 << k % 64, memory_order_seq_cst);
}

static inline void wf_queue_awake(struct wf_queue *queue, unsigned k) {
    atomic_fetch_and_explicit(&queue->asleep[k / 64], ~((uint64_t)1 << k % 64),
                              memory_order_seq_cst);
}

struct wf_shared {
    unsigned workers; /* these two are set before the first fork */
    bool spins;       /* there are processors enough for workers to wait awake, for a moment */
    struct wf_queue queue;
    struct wf_worker_area worker[]; /* as many as the pool may have */
};
