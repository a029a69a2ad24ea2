#include "client/python.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

const char *wf_env_get(char *const *envp, const char *name) {
    size_t size = strlen(name);
    for (; *envp != NULL; envp++)
        if ((*envp)[0] == name[0] && strncmp(*envp, name, size) == 0 && (*envp)[size] == '=')
            return *envp + size + 1;
    return NULL;
}

const char *wf_env_lookup(void *arg, const char *name) {
    return wf_env_get((char *const *)arg, name);
}

int wf_python_bindir(char ret_path[WF_PATH_ROOM], struct wf_err *err) {
    char path[WF_PATH_ROOM];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    if (size < 0)
        return wf_err_sys(err, "readlink", "/proc/self/exe");
    path[size] = '\0';
    char *slash = strrchr(path, '/');
    if (slash == NULL || (size_t)size >= sizeof path - 1)
        return wf_err_msg(err, "readlink /proc/self/exe: not an absolute path");
    *slash = '\0';
    memcpy(ret_path, path, (size_t)(slash - path) + 1);
    return 0;
}

static bool join(char ret_path[WF_PATH_ROOM], const char *dir, size_t dir_size, const char *name) {
    size_t name_size = strlen(name);
    if (dir_size + 1 + name_size >= WF_PATH_ROOM)
        return false;
    memmove(ret_path, dir, dir_size);
    ret_path[dir_size] = '/';
    memcpy(ret_path + dir_size + 1, name, name_size + 1);
    return true;
}

/* An executable regular file that is not this very program: a warmpy installed or linked as
 * "python3" must not run itself for ever. The inode of warmpy is only looked up when there is a
 * candidate. */
static bool usable(const char *path, bool *have_self, struct stat *self) {
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_mode & 0111) == 0)
        return false;
    if (!*have_self) {
        if (stat("/proc/self/exe", self) != 0)
            return true;
        *have_self = true;
    }
    return st.st_dev != self->st_dev || st.st_ino != self->st_ino;
}

static int search_path(const char *name, char *const *envp, char ret_path[WF_PATH_ROOM],
                       struct wf_err *err) {
    const char *path = wf_env_get(envp, "PATH");
    struct stat self;
    bool have_self = false;
    if (path == NULL)
        path = "/usr/local/bin:/usr/bin:/bin";
    for (;;) {
        const char *colon = strchr(path, ':');
        size_t size = colon != NULL ? (size_t)(colon - path) : strlen(path);
        const char *dir = size == 0 ? "." : path;
        if (join(ret_path, dir, size == 0 ? 1 : size, name) && usable(ret_path, &have_self, &self))
            return 0;
        if (colon == NULL)
            break;
        path = colon + 1;
    }
    errno = ENOENT;
    return wf_err_sys(err, "look up on PATH", name);
}

int wf_python_find(const char *wanted, char *const *envp, char ret_path[WF_PATH_ROOM],
                   struct wf_err *err) {
    struct stat self;
    bool have_self = false;
    if (wanted == NULL)
        wanted = wf_env_get(envp, "WARMFORK_PYTHON");
    if (wanted != NULL && wanted[0] != '\0') {
        size_t size = strlen(wanted);
        if (strchr(wanted, '/') == NULL)
            return search_path(wanted, envp, ret_path, err);
        if (size >= WF_PATH_ROOM) {
            errno = ENAMETOOLONG;
            return wf_err_sys(err, "execve", "WARMFORK_PYTHON");
        }
        memcpy(ret_path, wanted, size + 1);
        return 0;
    }
    const char *venv = wf_env_get(envp, "VIRTUAL_ENV");
    if (venv != NULL && venv[0] != '\0' && join(ret_path, venv, strlen(venv), "bin/python3") &&
        usable(ret_path, &have_self, &self))
        return 0;
    if (wf_python_bindir(ret_path, NULL) == 0) {
        size_t size = strlen(ret_path);
        if (join(ret_path, ret_path, size, "python3") && usable(ret_path, &have_self, &self))
            return 0;
        if (join(ret_path, ret_path, size, "python") && usable(ret_path, &have_self, &self))
            return 0;
    }
    return search_path("python3", envp, ret_path, err);
}

int wf_python_check_elf(const char *path, struct wf_err *err) {
    char magic[4];
    int fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return wf_err_sys(err, "open", path);
    ssize_t size = wf_read_full(fd, magic, sizeof magic);
    wf_close(&fd);
    if (size != sizeof magic || memcmp(magic, "\177ELF", sizeof magic) != 0)
        return wf_err_msg(err, "%s is not an ELF file", path);
    return 0;
}
