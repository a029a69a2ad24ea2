#include "queue/results.h"

#include <string.h>

/* Results begin at multiples of 8. Copies wrap at the end of the ring. */
static uint64_t padded(uint64_t size) { return (size + 7) & ~(uint64_t)7; }

static void copy_in(struct wf_results *ring, uint64_t at, const void *data, size_t size) {
    size_t from = at % WF_RESULTS_BYTES, first = WF_RESULTS_BYTES - from;
    if (first > size)
        first = size;
    memcpy(ring->data + from, data, first);
    memcpy(ring->data, (const uint8_t *)data + first, size - first);
}

static void copy_out(const struct wf_results *ring, uint64_t at, void *data, size_t size) {
    size_t from = at % WF_RESULTS_BYTES, first = WF_RESULTS_BYTES - from;
    if (first > size)
        first = size;
    memcpy(data, ring->data + from, first);
    memcpy((uint8_t *)data + first, ring->data, size - first);
}

bool wf_results_put(struct wf_results *ring, const struct wf_result *result, const void *data) {
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint64_t size = padded(sizeof *result + (uint64_t)result->size);
    if (WF_RESULTS_BYTES - (tail - head) < size)
        return false;
    copy_in(ring, tail, result, sizeof *result);
    copy_in(ring, tail + sizeof *result, data, result->size);
    atomic_store_explicit(&ring->tail, tail + size, memory_order_seq_cst);
    return true;
}

int wf_results_take(struct wf_results *ring, struct wf_result *ret_result, uint8_t *data) {
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    struct wf_result result;
    if (tail == head)
        return 0;
    if (tail - head > WF_RESULTS_BYTES || tail - head < sizeof result)
        return -1;
    copy_out(ring, head, &result,
             sizeof result); /* judged and used as copied: the ring may change meanwhile */
    uint64_t size = padded(sizeof result + (uint64_t)result.size);
    if (result.size > WF_QUEUE_PAYLOAD || size > tail - head)
        return -1;
    copy_out(ring, head + sizeof result, data, result.size);
    atomic_store_explicit(&ring->head, head + size, memory_order_seq_cst);
    *ret_result = result;
    return 1;
}

bool wf_results_ready(const struct wf_results *ring) {
    return atomic_load_explicit(&ring->tail, memory_order_seq_cst) !=
           atomic_load_explicit(&ring->head, memory_order_relaxed);
}
