/* Executing the daemon, cleaned of everything that is the caller's. Private to the client. */
#pragma once

#include "base/err.h"
#include "client/request.h"

/* Why a daemon had better not be started from this process, as static text, or NULL: what it could
 * not take off would hold for every program it ever serves. */
const char *wf_spawn_unwise(const struct wf_context *ctx, const struct wf_collected *c);

/* Starts warmforkd, which inherits `lock`; see start.h. It is no child of ours. Fails when it could
 * not be executed. *ret_pidfd (close-on-exec) becomes readable when it ends; -1 when it already
 * has. */
int wf_spawn_daemon(char *const *envp, int lock, int *ret_pidfd, struct wf_err *err);

/* Like fork(), but the child's end raises no SIGCHLD and is not seen by a wait() that does not ask
 * for it (__WALL). */
int wf_spawn_fork(void);
