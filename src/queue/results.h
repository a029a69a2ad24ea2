/* The ring of one worker's results: written by the worker, read by the parent. */
#pragma once

#include "queue/shared.h"

#include <stdbool.h>
#include <stddef.h>

/* The worker's end. False: there is no room until the parent has read. `result->size` is at most
 * WF_QUEUE_PAYLOAD. */
bool wf_results_put(struct wf_results *ring, const struct wf_result *result, const void *data);

/* The parent's end: the oldest result not yet taken, copied to *ret_result, its bytes to `data`,
 * which has room for WF_QUEUE_PAYLOAD. Returns 1, 0 when there is none, or -1 when what lies there
 * cannot have been written by wf_results_put: the worker has written over its ring, and nothing
 * behind is of use. */
int wf_results_take(struct wf_results *ring, struct wf_result *ret_result, uint8_t *data);

bool wf_results_ready(const struct wf_results *ring);
