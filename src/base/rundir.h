/* The runtime directory: where sockets, the lock, the log and the named zygotes' definitions live.
 *
 *   <rundir>/daemon.sock    the daemon's control socket
 *   <rundir>/daemon.lock    flock()ed by whoever starts a daemon, then by the daemon for life
 *   <rundir>/daemon.log     the log; daemon.log.1 is the previous one
 *   <rundir>/KEY.N          run socket of variant N (0..WF_VARIANTS-1) of context key KEY (32 hex
 * digits) <rundir>/KEY.N.ctl      that zygote's control socket <rundir>/zygotes/NAME   definition
 * of a named zygote (see wire.h, struct wf_definition)
 */
#pragma once

#include "base/err.h"
#include <stdbool.h>

#define WF_RUNDIR_MAX 68 /* so that rundir + "/" + 32 hex + ".0.ctl" fits sockaddr_un.sun_path */
#define WF_VARIANTS 4

/* Writes the directory's path: $WARMFORK_RUNTIME_DIR, else $XDG_RUNTIME_DIR/warmfork, else
 * /tmp/warmfork-UID. `get` looks a variable up (NULL when unset), so that libraries can pass
 * another environment than their own. Fails when the path is relative or longer than WF_RUNDIR_MAX.
 */
int wf_rundir_path(const char *(*get)(void *arg, const char *name), void *arg,
                   char ret_path[WF_RUNDIR_MAX + 1], struct wf_err *err);

/* Opens the directory (O_PATH | O_NOFOLLOW | O_CLOEXEC) and verifies that it is a directory, owned
 * by the effective uid, with no permission for group and others. `create` makes it (0700) when it
 * is missing. */
int wf_rundir_open(const char *path, bool create, int *ret_fd, struct wf_err *err);
