#include "base/rundir.h"

#include "base/io.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int wf_rundir_path(const char *(*get)(void *arg, const char *name), void *arg,
                   char ret_path[WF_RUNDIR_MAX + 1], struct wf_err *err) {
    char own[32];
    const char *suffix = "", *dir = get(arg, "WARMFORK_RUNTIME_DIR");
    if (!dir || !*dir) {
        suffix = "/warmfork";
        dir = get(arg, "XDG_RUNTIME_DIR");
    }
    if (!dir || !*dir) {
        suffix = "";
        wf_fmt(own, sizeof own, "/tmp/warmfork-%u", (unsigned)geteuid());
        dir = own;
    }
    if (dir[0] != '/')
        return wf_err_msg(err, "runtime directory %s: not an absolute path", dir);
    size_t size = strlen(dir), rest = strlen(suffix);
    if (size + rest > WF_RUNDIR_MAX)
        return wf_err_msg(err, "runtime directory %s%s: longer than %d bytes", dir, suffix,
                          WF_RUNDIR_MAX);
    memcpy(ret_path, dir, size);
    memcpy(ret_path + size, suffix, rest + 1);
    return 0;
}

/* `made`: by us just now, so that only our umask can have taken permissions away. */
static int verify(int fd, const char *path, bool made, struct wf_err *err) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return wf_err_sys(err, "fstat", path);
    if (!S_ISDIR(st.st_mode))
        return wf_err_msg(err, "runtime directory %s: not a directory", path);
    if (st.st_uid != geteuid())
        return wf_err_msg(err, "runtime directory %s: owned by uid %u", path, (unsigned)st.st_uid);
    if (made && (st.st_mode & 0700) != 0700 && chmod(path, 0700) < 0)
        return wf_err_sys(err, "chmod", path);
    if (st.st_mode & 077)
        return wf_err_msg(err, "runtime directory %s: mode %x%x%x is open to others", path,
                          (unsigned)st.st_mode >> 6 & 7, (unsigned)st.st_mode >> 3 & 7,
                          (unsigned)st.st_mode & 7);
    return 0;
}

int wf_rundir_open(const char *path, bool create, int *ret_fd, struct wf_err *err) {
    const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    bool made = false;
    int fd = open(path, flags);
    if (fd < 0 && errno == ENOENT && create) {
        made = mkdir(path, 0700) == 0;
        if (!made && errno != EEXIST)
            return wf_err_sys(err, "mkdir", path);
        fd = open(path, flags);
    }
    if (fd < 0)
        return wf_err_sys(err, "open", path);
    if (verify(fd, path, made, err) < 0) {
        wf_close(&fd);
        return -1;
    }
    *ret_fd = fd;
    return 0;
}
