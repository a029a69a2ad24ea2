/* How did a worker end that died without a word? */
#pragma once

#include "client/run.h"

/* Call when run->pidfd is readable. The kernel knows since Linux 6.15; else the worker's zygote,
 * else the daemon. When nobody knows, the answer is death by SIGKILL: never success. */
void wf_ask_end(struct wf_run *run, struct wf_exited *ret);
