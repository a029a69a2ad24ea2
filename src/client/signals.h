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
void wf_signals_forward(int fd, struct wf_run *run);

/* The parts of it, for a program that has a terminal of its own (terminal.h): */

struct signalfd_siginfo;
/* Hands one signal on to the program. */
void wf_signals_pass(const struct wf_run *run, const struct signalfd_siginfo *got);
/* WF_STOP_NOTICE: the signal that stopped the program; 0: it goes on, or a notice of the worker's,
 * which `run` knows now; -1: it is none. */
int wf_signals_notice(struct wf_run *run, const struct signalfd_siginfo *got);
/* Whether the signal would stop or end the program: it neither catches, ignores nor blocks it. */
bool wf_signals_would_act(const struct wf_run *run, int sig);
/* The program is stopped now. */
bool wf_signals_program_stopped(const struct wf_run *run);
/* Stops this process, as its parent expects when the program has stopped. Returns when it is
 * continued, with the SIGCONT in the signalfd; at once where the kernel does not stop it. */
void wf_signals_stop_here(int sig);

/* Ends this process as the program ended, without a core dump of its own. */
_Noreturn void wf_signals_end(const struct wf_exited *end);
