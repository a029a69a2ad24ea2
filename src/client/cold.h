/* The real interpreter, in place of this process: whatever is wrong, the program runs. */
#pragma once

#include "client/context.h"

/* Executes ctx->python with the caller's own arguments and environment. Signals must be as they
 * were. Returns only when that failed, with the exit status that a shell would give: 127 (no such
 * file) or 126. */
int wf_cold_exec(const struct wf_context *ctx, struct wf_err *err);
