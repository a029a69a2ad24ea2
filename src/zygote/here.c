/* The working directory as an input. Imports run in the one that the request was made in. When they
 * have asked which it is, or found something by a relative path, the zygote serves programs in
 * that directory alone. When they have looked for names that are not there (matplotlib:
 * matplotlibrc), it serves wherever these are not there either. */
#include "zygote/zygote.h"

#include "base/io.h"
#include "base/rundir.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    char path[PATH_MAX]; /* as the kernel names it; "" when imports run in no directory of anyone */
    dev_t dev;
    ino_t ino;
    bool bound;        /* programs elsewhere are not served */
    const char *names; /* that are missing, one after the other, each with its NUL */
    size_t names_size;
} here;

/* The last variant is for all the directories that the others are not made for: there, modules that
 * ask for the directory are left out. A user of a fifth directory finds the rest preloaded, and
 * nothing is thrown away for it. */
static bool is_for_all(void) { return zy.variant == WF_VARIANTS - 1; }

void zy_here_enter(void) {
    char path[PATH_MAX];
    struct stat st;
    const struct wf_span *wanted = &zy.request.directory;
    here.path[0] = '\0';
    here.bound = false;
    if (wanted->size == 0 || wanted->size >= sizeof path)
        return;
    wf_fmt(path, sizeof path, "%.*s", (int)wanted->size, (const char *)wanted->data);
    if (syscall(SYS_chdir, path) == 0 && fstatat(AT_FDCWD, ".", &st, 0) == 0 &&
        syscall(SYS_getcwd, here.path, sizeof here.path) > 0 && here.path[0] == '/') {
        here.dev = st.st_dev;
        here.ino = st.st_ino;
    } else {
        here.path[0] = '\0';
        zy_here_leave();
    }
}

void zy_here_leave(void) {
    if (syscall(SYS_chdir, "/") < 0)
        _exit(1); /* nobody's directory is held */
}

bool zy_here_bind(void) {
    if (here.path[0] == '\0' || is_for_all())
        return false;
    here.bound = true;
    return true;
}

bool zy_here_is_lost(void) {
    struct stat st;
    return here.path[0] != '\0' &&
           (stat(here.path, &st) < 0 || st.st_dev != here.dev || st.st_ino != here.ino);
}

int zy_here_collect(struct wf_err *err) {
    return zy_observed(ZY_OBSERVED_HERE, &here.names, &here.names_size, err);
}

unsigned zy_here_asked(const char **ret_path) {
    *ret_path = here.bound || here.names_size > 0 ? here.path : "";
    return here.bound            ? WF_ASKED_DIRECTORY
           : here.names_size > 0 ? WF_ASKED_NAMES
                                 : WF_ASKED_NOTHING;
}

static bool is_here(int cwd) {
    char link[40], path[PATH_MAX];
    struct stat st;
    wf_fmt(link, sizeof link, "/proc/self/fd/%d", cwd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0)
        return false;
    path[size] = '\0';
    return strcmp(path, here.path) == 0 && fstat(cwd, &st) == 0 && st.st_dev == here.dev &&
           st.st_ino == here.ino;
}

bool zy_here_match(int cwd, const char **ret_name) {
    struct stat st;
    if (here.bound && !is_here(cwd)) {
        *ret_name = here.path;
        return false;
    }
    for (size_t at = 0; at < here.names_size; at += strlen(here.names + at) + 1) {
        if (fstatat(cwd, here.names + at, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            *ret_name = here.names + at;
            return false;
        }
    }
    return true;
}
