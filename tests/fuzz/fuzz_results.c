/* A ring of results with any tail, head and content: what the parent reads from a worker that has
 * gone mad. */
#include "fuzz.h"

#include "queue/results.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct wf_results ring;
    static uint8_t payload[WF_QUEUE_PAYLOAD];
    uint64_t numbers[2] = { 0 };
    if (size < sizeof numbers)
        return 0;
    memcpy(numbers, data, sizeof numbers);
    data += sizeof numbers;
    size -= sizeof numbers;
    memset(ring.data, 0, sizeof ring.data);
    /* The content lies where the head points, around the end of the ring if need be. */
    for (size_t i = 0; i < size && i < sizeof ring.data; i++)
        ring.data[(numbers[0] + i) % sizeof ring.data] = data[i];
    ring.head = numbers[0];
    ring.tail = numbers[0] + numbers[1] % (2 * WF_RESULTS_BYTES);
    struct wf_result result;
    uint64_t before = ring.head, tail = ring.tail;
    int got;
    while ((got = wf_results_take(&ring, &result, payload)) > 0) {
        if (result.size > sizeof payload || ring.head - before < sizeof result ||
            tail - ring.head > tail - before)
            abort();
        before = ring.head;
    }
    if (got == 0 && ring.head != tail)
        abort();
    return 0;
}
