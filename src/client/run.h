/* A run in a worker, from the first connect to the program's end. */
#pragma once

#include "base/err.h"
#include "base/rundir.h"
#include "base/terminal.h"
#include "client/reply.h"
#include "client/request.h"

#define WF_STARTED_TIMEOUT_MS 10000
/* For so long a word of the worker's is waited for without going to sleep: longer than a worker
 * takes to start, or a short program to end. Being woken up costs a virtual CPU 30 to 50 us, which
 * a short program would feel twice. */
#define WF_SPIN_US 400

struct wf_run {
    struct wf_replies replies; /* owns the connection */
    int tie;                   /* owned: while it is open the program lives */
    int untie;                 /* owned: undoes that, see WF_STARTED_UNTIE */
    int pidfd;                 /* owned; -1 when we were out of descriptors */
    struct wf_started started;
    uint8_t key[WF_KEY_SIZE]; /* the route it took */
    unsigned variant;
    bool spins;            /* there is more than one CPU: short waits need no sleep */
    int master;            /* of the program's own terminal (terminal.h), owned; -1: it has none */
    struct wf_modes modes; /* that this began with */
    int keeper;            /* socket of that of its session, owned; -1: it has none */
    bool looked;           /* the program looks for input without waiting for it */
    bool ended;            /* `end` is final */
    uint32_t leave_at;     /* where the worker takes what is left to it (WF_NOTICE_EXITED), or 0 */
    struct wf_exited end;
    char rundir[WF_RUNDIR_MAX + 1];
};

enum wf_want {
    WF_WANT_NOTHING,
    WF_WANT_BASE,
    WF_WANT_CONTEXT
}; /* a zygote that the daemon should be asked for */

/* Collects the request into `c` and tries the routes, most specific first. 0: `ret` is a run that
 * has started, and must be released. 1: run it cold, `err` says why. ret_want says what to ask the
 * daemon for. `c` is to be released in any case. */
int wf_run_start(const struct wf_context *ctx, const struct wf_overrides *over, const char *rundir,
                 struct wf_collected *c, struct wf_run *ret, enum wf_want *ret_want,
                 struct wf_err *err);

/* Opens the pidfd if it was lost because this process had no free descriptor at that moment. */
void wf_run_find_pidfd(struct wf_run *run);

/* Connects to where the worker listens; it verifies who comes, and so do we. -1: it does not. */
int wf_run_connect(const struct wf_run *run, uint32_t name);

/* A notice of the worker's (WF_NOTICE_SIGNAL). */
void wf_run_noticed(struct wf_run *run, uint64_t notice);

/* Takes note of what the connection and the pidfd have to say, without waiting; call it when either
 * is readable (`dead`: the pidfd was). Returns whether the run has ended. When the worker died
 * without a word, asking how it ended may take a few seconds at worst (ask.h). */
bool wf_run_check(struct wf_run *run, bool dead);

/* Sends a signal to the program; `info` is a kernel siginfo or NULL. */
int wf_run_signal(const struct wf_run *run, int sig, void *info, struct wf_err *err);

/* Closes its descriptors. A program that still runs is killed by that. */
void wf_run_done(struct wf_run *run);
