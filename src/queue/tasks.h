/* The queue of tasks in shared memory: the parent's end and the workers' end. */
#pragma once

#include "queue/shared.h"

#include <stdbool.h>
#include <stddef.h>

/* The parent's private account of the queue: it never believes what a worker may have scribbled
 * over. */
struct wf_tasks {
    struct wf_queue *queue;
    uint64_t tail, freed; /* entries published; entries before `freed` may be used again */
    uint32_t write;       /* where the next bytes go */
    struct {
        uint64_t task;
        uint32_t at, size;
    } own[WF_QUEUE_ENTRIES];
};

/* Publishes a task whose bytes are the concatenation of two parts. False: there is no room now.
 * `size` of both together is at most WF_QUEUE_PAYLOAD. Wakes nobody. */
bool wf_tasks_push(struct wf_tasks *t, uint64_t task, uint32_t kind, const void *first,
                   size_t first_size, const void *second, size_t second_size);

/* How many published tasks no worker has taken yet; may be too high by those revoked. */
size_t wf_tasks_waiting(const struct wf_tasks *t);

/* Takes a task back that no worker has taken. False: too late, or not in the queue. */
bool wf_tasks_revoke(struct wf_tasks *t, uint64_t task);

/* The task that worker `k`, which is dead, had taken but not yet copied; 0 if there is none. Frees
 * its entry. */
uint64_t wf_tasks_lost(struct wf_tasks *t, unsigned k);

/* A worker's end: takes the oldest task, as worker `k`. The entry belongs to it until
 * wf_tasks_release; its bytes are at *ret_data. NULL: the queue is empty. */
const struct wf_entry *wf_tasks_claim(struct wf_queue *queue, unsigned k, const uint8_t **ret_data);
void wf_tasks_release(struct wf_queue *queue, const struct wf_entry *entry);

/* Is there a task that nobody has taken? */
bool wf_tasks_ready(const struct wf_queue *queue);
