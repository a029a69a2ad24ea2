/* Files that what is loaded came from: their directories are watched with inotify.
 *
 * Workers share the descriptor and only poll it. The kernel queues an event before the writer's system call returns, so
 * there is no moment at which a changed file is not yet known. */
#include "zygote/zygote.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define WATCH_MASK                                                                              \
    (IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF |         \
     IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK)

int zy_watch_dir(const char *path, struct wf_err *err)
{
    if (inotify_add_watch(zy.watch, path, WATCH_MASK) >= 0 || errno == ENOENT || errno == ENOTDIR)
        return 0; /* what is not there (python311.zip) loaded nothing */
    return wf_err_sys(err, "inotify_add_watch", path);
}

bool zy_watch_dirty(void)
{
    struct pollfd p = {.fd = zy.watch, .events = POLLIN};
    return zy.watch >= 0 && poll(&p, 1, 0) > 0;
}

/* Could a change of this name change what an import finds? Caches, data and editors' files do not. */
static bool matters(const struct inotify_event *e)
{
    static const char *const suffix[] = {".py", ".so", ".pth", ".zip", ".egg", ".egg-link", ".cfg"};
    if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_Q_OVERFLOW | IN_UNMOUNT))
        return true;
    if (e->len == 0 || strcmp(e->name, "__pycache__") == 0)
        return false;
    if (e->mask & IN_ISDIR)
        return true; /* a package appears or goes */
    size_t size = strlen(e->name);
    for (size_t i = 0; i < sizeof suffix / sizeof *suffix; i++) {
        size_t n = strlen(suffix[i]);
        if (size >= n && strcmp(e->name + size - n, suffix[i]) == 0)
            return true;
    }
    return false;
}

const char *zy_watch_read(void)
{
    static char name[NAME_MAX + 1];
    _Alignas(struct inotify_event) char buffer[16384];
    for (;;) {
        ssize_t got = read(zy.watch, buffer, sizeof buffer);
        if (got <= 0)
            return NULL;
        for (char *at = buffer; at < buffer + got;) {
            const struct inotify_event *e = (const struct inotify_event *)at;
            if (matters(e)) {
                wf_fmt(name, sizeof name, "%s", e->len ? e->name : "a watched directory");
                return name;
            }
            at += sizeof *e + e->len;
        }
    }
}
