/* What the halves of _observe.so share: the lists that src/zygote/inputs.c takes from it. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

enum {
    OBSERVED_VARIABLES,
    OBSERVED_FILES, /* opened, or looked at with an error that is neither of the next two */
    OBSERVED_WRITTEN,
    OBSERVED_FOUND,   /* looked at (stat, access, …), and there */
    OBSERVED_MISSING, /* looked at, and not there */
    OBSERVED_HERE,    /* the same, relative to the working directory, as it was given */
    OBSERVED_LISTED,  /* directories */
    OBSERVED_KINDS
};

/* Asked which directory it is: getcwd, or a relative path that led somewhere. */
extern atomic_uint wf_observe_cwd;

bool wf_observe_is_recording(void);
void wf_observe_note(int kind, const char *text);
/* After a call that looked at `path`, relative to `dir`. `found`: it succeeded, else errno says why
 * not; errno stays. */
void wf_observe_look(int dir, const char *path, bool found);
/* The absolute path of `path`, in `room` of PATH_MAX bytes or where it is; NULL when unknown. */
const char *wf_observe_absolute(int dir, const char *path, char *room);
