/* Reaching the daemon: connect – lock – connect – spawn.
 *
 * The starter holds flock(daemon.lock) while it starts a daemon, and hands the lock over: the
 * daemon is executed as `warmforkd` in a session of its own, with that locked descriptor as number
 * 3 and WARMFORK_LOCK_FD=3 in its environment, 0, 1 and 2 on /dev/null, nothing else open, cwd /,
 * umask 077, default signals, an empty mask, and no limit, niceness or affinity of the caller's
 * that can be taken off. It keeps descriptor 3 open for life. The daemon is there when daemon.sock
 * appears; the starter waits for that event, or for the daemon's end. */
#pragma once

#include "base/err.h"
#include "client/request.h"

#define WF_START_TIMEOUT_MS 5000

/* Connects to daemon.sock if somebody listens there; never waits. -1 with ENOENT, ECONNREFUSED or
 * EAGAIN in err->code when nobody does. */
int wf_start_connect(const char *rundir, int *ret_fd, struct wf_err *err);

/* Connects to the daemon, starting one if there is none; waits up to WF_START_TIMEOUT_MS. The
 * daemon is never a child of the calling process. `envp` is searched for WARMFORK_LIBEXEC and PATH,
 * and becomes the daemon's environment. */
int wf_start_daemon(const char *rundir, char *const *envp, int *ret_fd, struct wf_err *err);

/* Asks for a zygote without waiting for anything: sends WF_WARM if the daemon accepts, else leaves
 * a detached process behind that starts a daemon and tells it. 0, or -1 when it was not possible or
 * not wise from here. */
int wf_start_warm(const char *rundir, const struct wf_context *ctx, struct wf_collected *c,
                  bool with_preload, struct wf_err *err);
