/* Which interpreter runs the program: $WARMFORK_PYTHON, else $VIRTUAL_ENV/bin/python3, else python3
 * or python beside warmpy, else python3 on PATH; never warmpy itself. */
#pragma once

#include "base/err.h"
#include <stddef.h>

#define WF_PATH_ROOM 4096

/* The value of variable `name` in `envp`, or NULL. */
const char *wf_env_get(char *const *envp, const char *name);

/* For wf_rundir_path: `arg` is an envp. */
const char *wf_env_lookup(void *arg, const char *name);

/* The directory of the running program's real file (/proc/self/exe), without a slash at the end. */
int wf_python_bindir(char ret_path[WF_PATH_ROOM], struct wf_err *err);

/* Writes the interpreter's path as it will be executed. `wanted` (or NULL) overrules
 * $WARMFORK_PYTHON; a bare name is looked up on PATH. The file exists, except that an explicitly
 * wanted path is not checked. Fails with ENOENT in err->code when there is none. */
int wf_python_find(const char *wanted, char *const *envp, char ret_path[WF_PATH_ROOM],
                   struct wf_err *err);

/* Whether `path` is an ELF file; a script that pretends to be python may do anything, so it runs
 * cold. */
int wf_python_check_elf(const char *path, struct wf_err *err);
