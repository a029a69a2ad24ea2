/* _observe.so: files that were looked at without being opened, and directories that were listed.
 * Whether a configuration file exists is an answer like what is in it. */
#undef _FILE_OFFSET_BITS /* stat and stat64 are both defined here */
#include "zygote/observe_note.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* In plain system calls: none of this is to be noted. */
const char *wf_observe_absolute(int dir, const char *path, char *room) {
    char link[40];
    long size;
    if (path[0] == '/')
        return path;
    if (dir == AT_FDCWD) {
        size = syscall(SYS_getcwd, room, PATH_MAX) - 1;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        size = syscall(SYS_readlinkat, AT_FDCWD, link, room, PATH_MAX - 1);
    }
    size_t more = strlen(path);
    if (size <= 0 || room[0] != '/' || (size_t)size + more + 2 > PATH_MAX)
        return NULL;
    if (room[size - 1] != '/')
        room[size++] = '/';
    memcpy(room + size, path, more + 1);
    return room;
}

/* Caches of compiled code are neither input nor effect; what the kernel itself says is no file. */
static bool is_of_no_interest(const char *path) {
    return strstr(path, "__pycache__") != NULL || strncmp(path, "/dev/", 5) == 0 ||
           strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/sys/", 5) == 0;
}

static bool is_link(const char *path) {
    char c;
    return syscall(SYS_readlinkat, AT_FDCWD, path, &c, 1) >= 0;
}

void wf_observe_look(int dir, const char *path, bool found) {
    char room[PATH_MAX];
    int error = found ? 0 : errno, kept = errno;
    bool missing = error == ENOENT || error == ENOTDIR;
    if (path == NULL || path[0] == '\0' || is_of_no_interest(path))
        return;
    if (error == ENOTDIR && syscall(SYS_faccessat, dir, path, F_OK) == 0) {
        found = true; /* and is no directory, which opendir asked for */
        missing = false;
    }
    if (path[0] != '/' && dir == AT_FDCWD) {
        /* A link that leads nowhere is there for some and not for others. */
        if (missing && !is_link(path))
            wf_observe_note(OBSERVED_HERE, path);
        else
            atomic_fetch_add(&wf_observe_cwd, 1);
    }
    path = wf_observe_absolute(dir, path, room);
    if (path != NULL && !is_of_no_interest(path))
        wf_observe_note(found ? OBSERVED_FOUND : missing ? OBSERVED_MISSING : OBSERVED_FILES, path);
    errno = kept;
}

static void listed(int dir, const char *path) {
    char room[PATH_MAX];
    int kept = errno;
    if (dir == AT_FDCWD && path[0] != '/')
        atomic_fetch_add(&wf_observe_cwd, 1);
    path = wf_observe_absolute(dir, path, room);
    if (path != NULL && !is_of_no_interest(path))
        wf_observe_note(OBSERVED_LISTED, path);
    errno = kept;
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

/* RESULT NAME(PARAMETERS): the original with ARGUMENTS, and a note of it. Looked up at load time:
 * a child between vfork and exec must not ask the dynamic linker. What this C library does not have
 * nobody has been linked with. */
#define LOOK(result, name, parameters, arguments, failure, ...)                                    \
    EXPORT result name parameters;                                                                 \
    static result(*name##_next) parameters;                                                        \
    __attribute__((constructor)) static void name##_find(void) { name##_next = next(#name); }      \
    result name parameters {                                                                       \
        if (name##_next == NULL)                                                                   \
            name##_find();                                                                         \
        if (name##_next == NULL)                                                                   \
            return errno = ENOSYS, failure;                                                        \
        result value = name##_next arguments;                                                      \
        if (wf_observe_is_recording())                                                             \
            __VA_ARGS__;                                                                           \
        return value;                                                                              \
    }

#define STAT(name, type)                                                                           \
    LOOK(int, name, (const char *restrict path, struct type *restrict st), (path, st), -1,         \
         wf_observe_look(AT_FDCWD, path, value == 0))
#define STATAT(name, type)                                                                         \
    LOOK(int, name, (int dir, const char *restrict path, struct type *restrict st, int flags),     \
         (dir, path, st, flags), -1, wf_observe_look(dir, path, value == 0))
#define OLD_STAT(name, type)                                                                       \
    LOOK(int, name, (int version, const char *path, struct type *st), (version, path, st), -1,     \
         wf_observe_look(AT_FDCWD, path, value == 0))
#define OLD_STATAT(name, type)                                                                     \
    LOOK(int, name, (int version, int dir, const char *path, struct type *st, int flags),          \
         (version, dir, path, st, flags), -1, wf_observe_look(dir, path, value == 0))

STAT(stat, stat)
STAT(lstat, stat)
STATAT(fstatat, stat)
OLD_STAT(__xstat, stat) /* glibc before 2.33 */
OLD_STAT(__lxstat, stat)
OLD_STATAT(__fxstatat, stat)
#ifdef __GLIBC__
STAT(stat64, stat64)
STAT(lstat64, stat64)
STATAT(fstatat64, stat64)
OLD_STAT(__xstat64, stat64)
OLD_STAT(__lxstat64, stat64)
OLD_STATAT(__fxstatat64, stat64)
#endif

LOOK(int, statx,
     (int dir, const char *restrict path, int flags, unsigned mask, struct statx *restrict st),
     (dir, path, flags, mask, st), -1, wf_observe_look(dir, path, value == 0))
LOOK(int, access, (const char *path, int mode), (path, mode), -1,
     wf_observe_look(AT_FDCWD, path, value == 0))
LOOK(int, faccessat, (int dir, const char *path, int mode, int flags), (dir, path, mode, flags), -1,
     wf_observe_look(dir, path, value == 0))
LOOK(ssize_t, readlink, (const char *restrict path, char *restrict to, size_t size),
     (path, to, size), -1, wf_observe_look(AT_FDCWD, path, value >= 0 || errno == EINVAL))
LOOK(ssize_t, readlinkat, (int dir, const char *restrict path, char *restrict to, size_t size),
     (dir, path, to, size), -1, wf_observe_look(dir, path, value >= 0 || errno == EINVAL))

LOOK(DIR *, opendir, (const char *path), (path), NULL,
     (value != NULL ? listed(AT_FDCWD, path) : wf_observe_look(AT_FDCWD, path, false)))
LOOK(DIR *, fdopendir, (int fd), (fd), NULL, (value != NULL ? listed(fd, "") : (void)0))

/* What is relative afterwards is relative to something else. */
LOOK(int, chdir, (const char *path), (path), -1, atomic_fetch_add(&wf_observe_cwd, 1))
LOOK(int, fchdir, (int fd), (fd), -1, atomic_fetch_add(&wf_observe_cwd, 1))
