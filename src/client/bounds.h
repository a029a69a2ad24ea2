/* The bounds of a request: what the kernel holds this process to, and its program must be held to.
 */
#pragma once

#include "base/err.h"
#include "wire/wire.h"

/* 1: held to something that no worker can be held to, or that what is preloaded would count against
 * (`err` says what): it can only run cold. 0: not; its seccomp filters are counted, which in a
 * container takes 40 us. -1: could not be measured. Else cheap (3 us): to be asked before a worker
 * is disturbed. */
int wf_bounds_check(uint32_t *ret_filters, struct wf_err *err);

/* The same of what this process has from before its last exec and a worker cannot have: children,
 * alarms, the place of a service. Another 1 us; only for a process that the program would have
 * become. */
int wf_bounds_check_past(char *const *envp, struct wf_err *err);

/* Measures the bounds into `ret` (70 us); its `cpus` will point into `cpus`. `fd` is any socket
 * that this process made itself, or -1. -1: could not be measured, `ret` is not bounded then. */
int wf_bounds_collect(struct wf_request *ret, int fd, uint8_t cpus[WF_MAX_CPUS_BYTES],
                      struct wf_err *err);
