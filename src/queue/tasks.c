#include "queue/tasks.h"

#include <string.h>

static uint64_t state_of(uint64_t number, unsigned who) { return number << 16 | who; }

/* Gives back the entries that workers have copied, oldest first. */
static void reclaim(struct wf_tasks *t) {
    for (; t->freed < t->tail; t->freed++) {
        struct wf_entry *e = &t->queue->entry[t->freed % WF_QUEUE_ENTRIES];
        uint64_t state = atomic_load_explicit(&e->state, memory_order_acquire);
        if (state != state_of(t->freed, WF_ENTRY_FREE))
            return;
    }
}

/* Where `size` contiguous bytes are free, or -1. Never fills the ring to the last byte, so that
 * `write` equal to the oldest entry's place means empty. */
static long find_room(struct wf_tasks *t, uint32_t size) {
    if (t->tail - t->freed >= WF_QUEUE_ENTRIES)
        return -1;
    if (t->tail == t->freed) {
        t->write = 0;
        return 0;
    }
    uint32_t oldest = t->own[t->freed % WF_QUEUE_ENTRIES].at;
    if (t->write >= oldest) {
        if (WF_QUEUE_BYTES - t->write >= size)
            return t->write;
        return oldest > size ? 0 : -1;
    }
    return oldest - t->write > size ? (long)t->write : -1;
}

bool wf_tasks_push(struct wf_tasks *t, uint64_t task, uint32_t kind, const void *first,
                   size_t first_size, const void *second, size_t second_size) {
    /* An empty task takes a byte, so that places tell entries apart. */
    uint32_t size = (uint32_t)(first_size + second_size), takes = size ? size : 1;
    long at = find_room(t, takes);
    if (at < 0) {
        reclaim(t);
        if ((at = find_room(t, takes)) < 0)
            return false;
    }
    if (first_size)
        memcpy(t->queue->data + at, first, first_size);
    if (second_size)
        memcpy(t->queue->data + at + first_size, second, second_size);
    unsigned i = t->tail % WF_QUEUE_ENTRIES;
    struct wf_entry *e = &t->queue->entry[i];
    t->own[i].task = e->task = task;
    t->own[i].at = e->at = (uint32_t)at;
    t->own[i].size = e->size = size;
    e->kind = kind;
    atomic_store_explicit(&e->state, state_of(t->tail, WF_ENTRY_QUEUED), memory_order_release);
    t->write = (uint32_t)at + takes;
    atomic_store_explicit(&t->queue->tail, ++t->tail, memory_order_seq_cst);
    return true;
}

size_t wf_tasks_waiting(const struct wf_tasks *t) {
    uint64_t head = atomic_load_explicit(&t->queue->head, memory_order_acquire);
    return head < t->tail && t->tail - head <= WF_QUEUE_ENTRIES ? t->tail - head : 0;
}

bool wf_tasks_revoke(struct wf_tasks *t, uint64_t task) {
    for (uint64_t n = t->tail; n-- > t->freed;) {
        if (t->own[n % WF_QUEUE_ENTRIES].task != task)
            continue;
        uint64_t queued = state_of(n, WF_ENTRY_QUEUED);
        return atomic_compare_exchange_strong(&t->queue->entry[n % WF_QUEUE_ENTRIES].state, &queued,
                                              state_of(n, WF_ENTRY_FREE));
    }
    return false;
}

uint64_t wf_tasks_lost(struct wf_tasks *t, unsigned k) {
    for (uint64_t n = t->freed; n < t->tail; n++) {
        struct wf_entry *e = &t->queue->entry[n % WF_QUEUE_ENTRIES];
        uint64_t claimed = state_of(n, WF_ENTRY_CLAIMED + k);
        if (atomic_compare_exchange_strong(&e->state, &claimed, state_of(n, WF_ENTRY_FREE)))
            return t->own[n % WF_QUEUE_ENTRIES].task;
    }
    return 0;
}

const struct wf_entry *wf_tasks_claim(struct wf_queue *queue, unsigned k,
                                      const uint8_t **ret_data) {
    for (;;) {
        uint64_t head = atomic_load_explicit(&queue->head, memory_order_acquire);
        if (head >= atomic_load_explicit(&queue->tail, memory_order_seq_cst))
            return NULL;
        struct wf_entry *e = &queue->entry[head % WF_QUEUE_ENTRIES];
        uint64_t queued = state_of(head, WF_ENTRY_QUEUED);
        bool mine = atomic_compare_exchange_strong(&e->state, &queued,
                                                   state_of(head, WF_ENTRY_CLAIMED + k));
        /* Whether it was ours or another's: the next one who looks need not look here. */
        uint64_t seen = head;
        atomic_compare_exchange_strong(&queue->head, &seen, head + 1);
        if (!mine)
            continue;
        if (e->at > WF_QUEUE_BYTES || e->size > WF_QUEUE_BYTES - e->at)
            return NULL; /* somebody has written over the queue */
        *ret_data = queue->data + e->at;
        return e;
    }
}

void wf_tasks_release(struct wf_queue *queue, const struct wf_entry *entry) {
    struct wf_entry *e = &queue->entry[entry - queue->entry];
    uint64_t state = atomic_load_explicit(&e->state, memory_order_relaxed);
    atomic_store_explicit(&e->state, (state & ~(uint64_t)0xffff) | WF_ENTRY_FREE,
                          memory_order_release);
}

bool wf_tasks_ready(const struct wf_queue *queue) {
    uint64_t head = atomic_load_explicit(&queue->head, memory_order_acquire);
    return head < atomic_load_explicit(&queue->tail, memory_order_seq_cst);
}
