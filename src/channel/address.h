/* The address of a socket below the runtime directory. Private to channel. */
#pragma once

#include "base/err.h"
#include "base/rundir.h"
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

_Static_assert(WF_RUNDIR_MAX + sizeof "/" + 32 + sizeof ".0.ctl" - 1 <=
                   sizeof((struct sockaddr_un *)0)->sun_path,
               "the longest socket name does not fit");

static inline int wf_address_fill(struct sockaddr_un *ret, const char *path, const char *name,
                                  struct wf_err *err) {
    size_t path_size = strlen(path), name_size = strlen(name);
    if (path_size + 1 + name_size >= sizeof ret->sun_path)
        return wf_err_msg(err, "socket %s/%s: name is too long", path, name);
    ret->sun_family = AF_UNIX;
    memcpy(ret->sun_path, path, path_size);
    ret->sun_path[path_size] = '/';
    memcpy(ret->sun_path + path_size + 1, name, name_size + 1);
    return 0;
}
