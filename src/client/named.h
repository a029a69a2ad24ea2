/* What is to be preloaded: the zygote that WARMFORK_ZYGOTE names, else the modules of
 * WARMFORK_PRELOAD. */
#pragma once

#include "client/context.h"

#define WF_DEFINITION_MAX 8192
#define WF_PRELOAD_MAX 4096
#define WF_NAME_MAX 64

/* Whether `name` is 1 to 64 letters, digits, dots, underscores and hyphens, and does not begin with
 * a dot. */
bool wf_named_valid(const char *name);

/* Sets zygote, preload and init of `ctx` from its environment; `room` holds the definition and must
 * outlive `ctx`. Fails when the zygote is not defined: the program then runs cold. */
int wf_named_apply(struct wf_context *ctx, const char *rundir, uint8_t room[WF_DEFINITION_MAX],
                   struct wf_err *err);

/* Finds a file of the Python package by name: in $WARMFORK_LIBDIR, else <bindir>/../lib/warmfork,
 * else the same below lib and lib64, in python3.N/site-packages or dist-packages. */
int wf_named_libfile(char *const *envp, const char *name, char ret_path[WF_PATH_ROOM],
                     struct wf_err *err);
