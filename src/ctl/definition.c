/* Definitions of named zygotes: <rundir>/zygotes/NAME. */
#include "ctl/ctl.h"

#include "base/cleanup.h"
#include "base/io.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_folder(const char *rundir, bool create, int *ret_fd, struct wf_err *err) {
    WF_AUTO_FD dir = -1;
    if (wf_rundir_open(rundir, create, &dir, err) < 0)
        return -1;
    if (create && mkdirat(dir, "zygotes", 0700) < 0 && errno != EEXIST)
        return wf_err_sys(err, "mkdir", "zygotes");
    int fd = openat(dir, "zygotes", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return wf_err_sys(err, "open", "zygotes");
    *ret_fd = fd;
    return 0;
}

/* Complete under another name first: a program that starts at this moment reads the old one or the
 * new one. */
int wc_definition_write(const char *rundir, const struct wf_definition *def, struct wf_err *err) {
    WF_AUTO_FD folder = -1;
    WF_AUTO_BUF out;
    char name[80], temporary[32];
    wf_buf_init(&out, 1 << 16);
    wf_fmt(name, sizeof name, "%.*s", (int)def->name.size, (const char *)def->name.data);
    wf_fmt(temporary, sizeof temporary, ".new.%d", (int)getpid());
    if (!wf_encode_definition(&out, def))
        return wf_err_msg(err, "the definition of %s is too long", name);
    if (open_folder(rundir, true, &folder, err) < 0)
        return -1;
    WF_AUTO_FD fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                           0600);
    if (fd < 0)
        return wf_err_sys(err, "open", temporary);
    int status = 0;
    if (wf_write_full(fd, out.data, out.size) < 0)
        status = wf_err_sys(err, "write", temporary);
    else if (renameat(folder, temporary, folder, name) < 0)
        status = wf_err_sys(err, "rename", name);
    if (status < 0)
        unlinkat(folder, temporary, 0);
    return status;
}

int wc_definition_remove(const char *rundir, const char *name, struct wf_err *err) {
    WF_AUTO_FD folder = -1;
    if (open_folder(rundir, false, &folder, err) < 0)
        return err->code == ENOENT ? 0 : -1;
    if (unlinkat(folder, name, 0) == 0)
        return 1;
    return errno == ENOENT ? 0 : wf_err_sys(err, "unlink", name);
}

int wc_definition_read(const char *rundir, const char *name, uint8_t *room, size_t size,
                       struct wf_definition *ret, struct wf_err *err) {
    WF_AUTO_FD folder = -1;
    if (open_folder(rundir, false, &folder, err) < 0)
        return err->code == ENOENT ? 0 : -1;
    WF_AUTO_FD fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : wf_err_sys(err, "open", name);
    ssize_t got = wf_read_full(fd, room, size);
    if (got < 0)
        return wf_err_sys(err, "read", name);
    const char *wrong = wf_decode_definition(room, (size_t)got, ret);
    return wrong ? wf_err_msg(err, "zygotes/%s: %s", name, wrong) : 1;
}
