/* A worker's end of the pool: what a forked child does with the shared memory. None of it
 * allocates. */
#pragma once

#include "base/err.h"
#include "queue/results.h"
#include "queue/tasks.h"

#include <stdbool.h>
#include <sys/types.h>

struct wf_member {
    struct wf_shared *shared;
    unsigned k;
    int wake;                 /* eventfd of the parent */
    uint64_t cpu_ns, seen_ns; /* processor time used so far, and when that was looked up */
    bool hot;                 /* the last wait was so short that the next one is begun awake */
};

/* From now on this process is killed when `parent`, its parent, ends, whichever of its threads has
 * forked us. -1: it has ended already. */
int wf_member_tie(pid_t parent, struct wf_err *err);

/* Becomes worker `k` of the parent `parent`: from now on it dies with it. -1: the parent is gone
 * already. */
int wf_member_init(struct wf_member *m, struct wf_shared *shared, unsigned k, int wake,
                   pid_t parent, struct wf_err *err);

/* Takes the next task, copied by the caller before wf_member_taken. NULL: none is there now. */
const struct wf_entry *wf_member_claim(struct wf_member *m, const uint8_t **ret_data);
void wf_member_taken(struct wf_member *m, const struct wf_entry *entry);

/* Sleeps until there may be a task. Returns 0, or 1 when a signal came, or -1 when the pool is
 * closed. */
int wf_member_sleep(struct wf_member *m);

/* The task has run. Does not return when the parent has doomed it: the parent is about to kill this
 * process. Fills the times of `result`. */
void wf_member_finished(struct wf_member *m, struct wf_result *result);

/* Hands a result to the parent. Returns 0; 1 when a signal came while the ring was full: then
 * nothing was sent, and it is to be called again. */
int wf_member_send(struct wf_member *m, const struct wf_result *result, const void *data);

/* Offsets in this worker's arena that the parent has let go of; 0 when there is no more. */
bool wf_member_returned(struct wf_member *m, uint64_t *ret_offset);
