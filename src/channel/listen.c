#include "channel/channel.h"

#include "base/cleanup.h"
#include "channel/address.h"
#include <errno.h>
#include <stdio.h> /* rename */
#include <sys/stat.h>
#include <unistd.h>

/* Everything of listening that happens under the temporary name. */
static int listen_at(int fd, const struct sockaddr_un *address, int backlog, struct wf_err *err) {
    if (unlink(address->sun_path) < 0 &&
        errno != ENOENT) /* left by an earlier process of the same number */
        return wf_err_sys(err, "unlink", address->sun_path);
    if (bind(fd, (const struct sockaddr *)address, sizeof *address) < 0)
        return wf_err_sys(err, "bind", address->sun_path);
    if (chmod(address->sun_path, 0600) < 0) /* the umask may have been anything */
        return wf_err_sys(err, "chmod", address->sun_path);
    if (listen(fd, backlog) < 0)
        return wf_err_sys(err, "listen", address->sun_path);
    return 0;
}

int wf_channel_listen(const char *path, const char *name, int backlog, int *ret_fd,
                      struct wf_err *err) {
    static unsigned counter;
    struct sockaddr_un final, temporary;
    char temporary_name[32];
    wf_fmt(temporary_name, sizeof temporary_name, ".%d.%u", (int)getpid(), counter++);
    if (wf_address_fill(&final, path, name, err) < 0 ||
        wf_address_fill(&temporary, path, temporary_name, err) < 0)
        return -1;
    WF_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return wf_err_sys(err, "socket", final.sun_path);
    int status = listen_at(fd, &temporary, backlog, err);
    if (status == 0 && rename(temporary.sun_path, final.sun_path) < 0)
        status = wf_err_sys(err, "rename", final.sun_path);
    if (status < 0) {
        unlink(temporary.sun_path);
        return -1;
    }
    *ret_fd = wf_steal_fd(&fd);
    return 0;
}
