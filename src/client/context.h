/* The context of a run: everything that shapes an interpreter before user code runs, and the key
 * that is its hash (docs/design.md, "The context key"). Nobody else computes keys.
 *
 *     struct wf_context ctx;
 *     wf_context_init(&ctx, argc, argv, envp);        // scans the options
 *     wf_context_python(&ctx, NULL, &err);            // chooses the interpreter
 *     ctx.zygote = …; ctx.preload = …; ctx.init = …;  // or wf_named_apply (named.h)
 *     wf_context_key(&ctx, &err);                     // measures and hashes
 *
 * After each step ctx.cold tells whether the run must be cold; it is a static text, or NULL. */
#pragma once

#include "base/err.h"
#include "base/place.h"
#include "client/options.h"
#include "client/python.h"
#include "wire/wire.h"

struct wf_context {
    uint32_t argc, envc;
    char *const *argv; /* the caller's; must outlive the context */
    char *const *envp;
    struct wf_command command;
    struct wf_span zygote, preload,
        init; /* name, modules, absolute path; size 0: none. The caller's memory. */
    const char *cold;
    struct wf_place place;         /* its quick half: all but most namespaces, which requests add */
    uint8_t key[WF_KEY_SIZE];      /* with zygote and preload */
    uint8_t base_key[WF_KEY_SIZE]; /* without: the broader route; equal to `key` when there is
                                      neither */
    char python[WF_PATH_ROOM];
};

/* Scans command line and environment. `argv` is the whole of it, as for python; argv[0] is not
 * looked at. */
void wf_context_init(struct wf_context *ctx, uint32_t argc, char *const *argv, char *const *envp);

/* Chooses the interpreter (see wf_python_find). -1: there is none. */
int wf_context_python(struct wf_context *ctx, const char *wanted, struct wf_err *err);

/* Fills place, key and base_key. The namespaces that take long to measure are not part of the key:
 * a worker compares them. -1 (something could not be measured): run cold. */
int wf_context_key(struct wf_context *ctx, struct wf_err *err);
