/* What a worker must know of the caller to become it: collected from the calling process, sent as
 * WF_RUN or WF_WARM. */
#pragma once

#include "base/err.h"
#include "client/context.h"
#include "wire/wire.h"

struct wf_collected {
    struct wf_request
        request;    /* spans point into the context and into this struct: do not copy or move it */
    unsigned flags; /* of WF_RUN */
    unsigned nfds;
    int fds[WF_MAX_FDS]; /* in the order of WF_RUN; fds[cwd_index] is owned, the others are the
                            caller's */
    int cwd;             /* O_PATH descriptor of the working directory, owned; -1: none */
    unsigned open; /* descriptors that were seen, if there may be others; see wf_request_bound */
    void *map;     /* copy of the strings when they did not lie contiguously, owned; or NULL */
    size_t map_size;
    uint8_t fdnums[4 * WF_MAX_FDS];
    uint8_t cpus[WF_MAX_CPUS_BYTES];
    char directory[4096]; /* filled for WF_WARM alone */
};

/* What the program is to get, where that is not simply what this process has. */
struct wf_overrides {
    uint64_t blocked; /* signal mask (bit n-1: signal n) as it was before the caller changed it */
    const int *fds; /* NULL: this process's own 0, 1, 2 and all inheritable descriptors above; else
                       descriptor */
    const int *fdnums; /* fds[i] becomes number fdnums[i]; -1 in fds is skipped */
    unsigned nfds;
    int cwd;       /* descriptor of the working directory, stays the caller's; -1: this process's */
    int64_t umask; /* -1: ask umask(2), which a program with threads must not do */
    bool notices;  /* this process is told by signals (WF_F_NOTICES) */
    bool waits;    /* the program begins when this process closes the connection (WF_F_WAIT) */
};

/* Measures the calling process, all but the bounds. `ctx` must have its key, and outlive `ret`. 1:
 * it can only run cold, `err` says why; -1: something could not be measured (cold as well). On
 * anything but 0 nothing is owned. This takes about as long as a worker takes to wake up, so it is
 * done between connect and send: `connection` is the connection, which is not handed on, or -1. */
int wf_request_collect(const struct wf_context *ctx, const struct wf_overrides *over,
                       int connection, struct wf_collected *ret, struct wf_err *err);

/* Closes and unmaps what it owns. */
void wf_request_done(struct wf_collected *c);

/* Sends it as WF_RUN with its descriptors; for the context itself, or its base. */
int wf_request_send_run(int fd, struct wf_collected *c, bool with_preload, struct wf_err *err);

/* Measures the bounds as well, unless that has been done. */
int wf_request_bound(struct wf_collected *c, int connection, struct wf_err *err);

/* Sends the bounds as WF_BOUNDS. */
int wf_request_send_bounds(int fd, struct wf_collected *c, struct wf_err *err);

/* Finds out what the working directory is called, while its descriptor is open: WF_WARM says it. */
void wf_request_name_directory(struct wf_collected *c);

/* Sends it as WF_WARM, with its bounds (no descriptors; `flags` 0 or WF_F_WAIT). `with_preload`:
 * the context itself, else its base. Options glued to -c or -m are cut apart, so that
 * argv[1..options] are exactly the interpreter's options. */
int wf_request_send_warm(int fd, const struct wf_context *ctx, struct wf_collected *c,
                         bool with_preload, unsigned flags, struct wf_err *err);
