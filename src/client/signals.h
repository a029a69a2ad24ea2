/* Signals of warmpy are signals of the program: from before the first connect all are blocked, and
 * then handed on. */
#pragma once

#include "base/err.h"
#include "client/run.h"

/* Blocks every signal and returns the mask as it was (bit n-1: signal n). Nothing is lost: what
 * arrives stays pending, for the worker or, after wf_signals_restore, for the interpreter. */
uint64_t wf_signals_block(void);
void wf_signals_restore(uint64_t mask);

/* A signalfd for all signals. */
int wf_signals_open(int *ret_fd, struct wf_err *err);

/* Hands everything that waits in `fd` on to the program, with the value of sigqueue(). SIGTSTP,
 * SIGTTIN and SIGTTOU stop the program and this process as well, if the program has no handler of
 * its own; it returns after SIGCONT. */
void wf_signals_forward(int fd, const struct wf_run *run);

/* Ends this process as the program ended, without a core dump of its own. */
_Noreturn void wf_signals_end(const struct wf_exited *end);
