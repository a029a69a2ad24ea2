/* Attempts to import a preload, each in a process of its own, until one is clean. */
#pragma once

#include "zygote/zygote.h"
#include "zygote/python.h"

#define ZY_MODULES 256

struct zy_attempt {
    char *module[ZY_MODULES]; /* owned */
    unsigned count;
    unsigned left_out; /* modules that could not be preloaded, so far */
    int tell;          /* write end of a pipe to the process that keeps count */
    int output;        /* memfd on 1 and 2 */
    int input;         /* memfd on 0: its position tells whether it was read */
};

/* Takes the modules from the zygote's request and makes the memfds. */
int zy_attempt_init(struct zy_attempt *a, struct wf_err *err);

/* Forks attempts until one succeeds: returns in that process, which is the zygote then, with
 * signals unblocked and its streams on the memfds. The counting process ends. Modules that fail,
 * print, or leave behind what a fork would lose are left out and named to the daemon. */
int zy_attempt_imports(struct zy_attempt *a, PyObject *space, struct wf_err *err);

/* Signals blocked and streams on /dev/null again; releases what `a` holds. */
void zy_attempt_done(struct zy_attempt *a);
