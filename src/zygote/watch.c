/* Files that what is loaded came from: their directories are watched with inotify.
 *
 * Workers share the descriptor and only poll it. The kernel queues an event before the writer's
 * system call returns, so there is no moment at which a changed file is not yet known. */
#include "zygote/zygote.h"

#include "base/io.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define NAMES_MASK                                                                                 \
    (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF |         \
     IN_ONLYDIR | IN_EXCL_UNLINK | IN_MASK_ADD)
#define WATCH_MASK (NAMES_MASK | IN_MODIFY)

/* Names of which any change matters, in watched directories. */
static struct {
    struct watched {
        int wd;
        char *name;
    } *list;
    unsigned count, room;
    /* Watch descriptors of directories that imports look in; of others that were listed. */
    struct watch_list {
        int *wd;
        unsigned count;
    } general, listed;
} watched;

int zy_watch_init(struct wf_err *err) {
    wf_close(&zy.watch);
    for (unsigned i = 0; i < watched.count; i++)
        free(watched.list[i].name);
    watched.count = watched.general.count = watched.listed.count = 0;
    zy.watch = wf_move_fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC), ZY_FD_BASE);
    return zy.watch < 0 ? wf_err_sys(err, "inotify_init1", "files that were loaded") : 0;
}

static bool note_name(int wd, const char *name) {
    for (unsigned i = watched.count;
         i-- > 0 && i + 64 > watched.count;) /* neighbours repeat, no more */
        if (watched.list[i].wd == wd && strcmp(watched.list[i].name, name) == 0)
            return true;
    if (watched.count == watched.room) {
        unsigned room = watched.room ? watched.room * 2 : 64;
        struct watched *more = realloc(watched.list, room * sizeof *more);
        if (more == NULL)
            return false;
        watched.list = more;
        watched.room = room;
    }
    watched.list[watched.count] = (struct watched){ wd, strdup(name) };
    return watched.list[watched.count++].name != NULL;
}

static bool is_in(const struct watch_list *list, int wd) {
    for (unsigned i = 0; i < list->count; i++)
        if (list->wd[i] == wd)
            return true;
    return false;
}

static int watch_entries(const char *path, struct watch_list *list, struct wf_err *err) {
    int wd = inotify_add_watch(zy.watch, path, WATCH_MASK);
    if (wd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return zy_watch_file(path, err); /* not there, or an archive */
    if (wd < 0)
        return wf_err_sys(err, "inotify_add_watch", path);
    if (is_in(&watched.general, wd) || is_in(&watched.listed, wd))
        return 0;
    int *more = realloc(list->wd, (list->count + 1) * sizeof *more);
    if (more == NULL)
        return wf_err_sys(err, "malloc", path);
    list->wd = more;
    list->wd[list->count++] = wd;
    return 0;
}

int zy_watch_dir(const char *path, struct wf_err *err) {
    return watch_entries(path, &watched.general, err);
}

int zy_watch_list(const char *path, struct wf_err *err) {
    return watch_entries(path, &watched.listed, err);
}

/* Watches `path` in its directory; where that is not there, the nearest ancestor for the next
 * component. */
static int watch_name(const char *path, uint32_t mask, struct wf_err *err) {
    char dir[PATH_MAX];
    wf_fmt(dir, sizeof dir, "%s", path);
    for (;;) {
        char *slash = strrchr(dir, '/');
        if (slash == NULL || slash[1] == '\0')
            return 0;
        char name[NAME_MAX + 1];
        wf_fmt(name, sizeof name, "%s", slash + 1);
        *slash = '\0';
        int wd = inotify_add_watch(zy.watch, dir[0] ? dir : "/", mask);
        if (wd >= 0)
            return note_name(wd, name) ? 0 : wf_err_sys(err, "malloc", path);
        if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
            return wf_err_sys(err, "inotify_add_watch", dir);
    }
}

static int watch_path(const char *path, uint32_t mask, struct wf_err *err) {
    char real[PATH_MAX];
    if (path[0] != '/' || strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/sys/", 5) == 0)
        return 0; /* the kernel's own word: not a file that is edited */
    if (watch_name(path, mask, err) < 0)
        return -1;
    if (realpath(path, real) != NULL && strcmp(real, path) != 0)
        return watch_name(real, mask, err);
    return 0;
}

int zy_watch_file(const char *path, struct wf_err *err) {
    return watch_path(path, WATCH_MASK, err);
}

int zy_watch_name(const char *path, struct wf_err *err) {
    return watch_path(path, NAMES_MASK, err);
}

bool zy_watch_dirty(void) {
    struct pollfd p = { .fd = zy.watch, .events = POLLIN };
    return zy.watch >= 0 && poll(&p, 1, 0) > 0;
}

/* Could a change of this name change what an import finds? Caches, data and editors' files do not.
 */
static bool could_be_imported(const struct inotify_event *e) {
    static const char *const suffix[] = {
        ".py", ".so", ".pth", ".zip", ".egg", ".egg-link", ".cfg"
    };
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

static bool matters(const struct inotify_event *e) {
    if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_Q_OVERFLOW | IN_UNMOUNT))
        return true;
    for (unsigned i = 0; i < watched.count && e->len > 0; i++)
        if (watched.list[i].wd == e->wd && strcmp(watched.list[i].name, e->name) == 0)
            return true;
    if (is_in(&watched.general, e->wd))
        return could_be_imported(e);
    return is_in(&watched.listed, e->wd) && e->len > 0 && strcmp(e->name, "__pycache__") != 0;
}

const char *zy_watch_read(void) {
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
