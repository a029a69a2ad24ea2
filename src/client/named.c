#include "client/named.h"

#include "base/dirent.h"
#include "base/cleanup.h"
#include "base/rundir.h"
#include "client/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

bool wf_named_valid(const char *name) {
    size_t size = strlen(name);
    if (size == 0 || size > WF_NAME_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return true;
}

static struct wf_span span(const char *text) {
    return (struct wf_span){ (const uint8_t *)text, (uint32_t)strlen(text) };
}

static int read_definition(const char *rundir, const char *name, uint8_t room[WF_DEFINITION_MAX],
                           struct wf_definition *ret, struct wf_err *err) {
    char path[WF_NAME_MAX + 16];
    WF_AUTO_FD dir = -1;
    if (wf_rundir_open(rundir, false, &dir, err) < 0)
        return -1;
    wf_fmt(path, sizeof path, "zygotes/%s", name);
    WF_AUTO_FD fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return wf_err_sys(err, "open", path);
    ssize_t size = wf_read_full(fd, room, WF_DEFINITION_MAX);
    if (size < 0)
        return wf_err_sys(err, "read", path);
    const char *wrong = wf_decode_definition(room, (size_t)size, ret);
    return wrong != NULL ? wf_err_msg(err, "%s: %s", path, wrong) : 0;
}

int wf_named_apply(struct wf_context *ctx, const char *rundir, uint8_t room[WF_DEFINITION_MAX],
                   struct wf_err *err) {
    struct wf_definition definition;
    const char *name = wf_env_get(ctx->envp, "WARMFORK_ZYGOTE");
    if (name == NULL || name[0] == '\0') {
        const char *preload = wf_env_get(ctx->envp, "WARMFORK_PRELOAD");
        if (preload != NULL && strlen(preload) <= WF_PRELOAD_MAX)
            ctx->preload = span(preload);
        return 0;
    }
    if (!wf_named_valid(name))
        return wf_err_msg(err, "WARMFORK_ZYGOTE=%.*s is not a zygote's name", 100, name);
    struct wf_err why;
    if (read_definition(rundir, name, room, &definition, &why) < 0)
        return wf_err_msg(err, "no zygote is named %s: %s", name, why.text);
    ctx->zygote = span(name);
    ctx->preload = definition.preload;
    ctx->init = definition.init;
    return 0;
}

/* Tries one directory `base`/lib that may hold several versions of python. */
static bool search_lib(const char *base, const char *lib, const char *file,
                       char ret_path[WF_PATH_ROOM]) {
    static const char *const packages[] = { "site-packages", "dist-packages" };
    _Alignas(8) char room[2048];
    char path[WF_PATH_ROOM];
    if (wf_fmt(path, sizeof path, "%s/%s", base, lib) >= sizeof path - 1)
        return false;
    WF_AUTO_FD dir = openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long size;
    while (dir >= 0 && (size = syscall(SYS_getdents64, dir, room, sizeof room)) > 0) {
        for (long at = 0; at < size;) {
            const struct wf_dirent *entry = (const struct wf_dirent *)(room + at);
            at += entry->size;
            if (!wf_text_starts(entry->name, "python3"))
                continue;
            for (int i = 0; i < 2; i++) {
                size_t length = wf_fmt(ret_path, WF_PATH_ROOM, "%s/%s/%s/warmfork/%s", path,
                                       entry->name, packages[i], file);
                if (length < WF_PATH_ROOM - 1 && faccessat(AT_FDCWD, ret_path, R_OK, 0) == 0)
                    return true;
            }
        }
    }
    return false;
}

int wf_named_libfile(char *const *envp, const char *name, char ret_path[WF_PATH_ROOM],
                     struct wf_err *err) {
    char base[WF_PATH_ROOM];
    const char *libdir = wf_env_get(envp, "WARMFORK_LIBDIR");
    if (libdir != NULL && libdir[0] == '/' &&
        wf_fmt(ret_path, WF_PATH_ROOM, "%s/%s", libdir, name) < WF_PATH_ROOM - 1 &&
        faccessat(AT_FDCWD, ret_path, R_OK, 0) == 0)
        return 0;
    if (wf_python_bindir(base, err) < 0)
        return -1;
    char *slash = strrchr(base, '/');
    if (slash != NULL)
        *slash = '\0';
    if (wf_fmt(ret_path, WF_PATH_ROOM, "%s/lib/warmfork/%s", base, name) < WF_PATH_ROOM - 1 &&
        faccessat(AT_FDCWD, ret_path, R_OK, 0) == 0)
        return 0;
    if (search_lib(base, "lib", name, ret_path) || search_lib(base, "lib64", name, ret_path))
        return 0;
    errno = ENOENT;
    return wf_err_sys(err, "look up beside warmpy", name);
}
