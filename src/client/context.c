#include "client/context.h"

#include "base/hash.h"
#include "client/text.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define SHAPING_MAX 256 /* variables that shape the interpreter; a caller with more runs cold */

/* Whether NAME=VALUE belongs to the key. The first letter decides quickly for nearly all. */
static bool shapes(const char *entry) {
    switch (entry[0]) {
    case 'P':
        return wf_text_starts(entry, "PYTHON");
    case 'L':
        return wf_text_starts(entry, "LC_") || wf_text_starts(entry, "LD_") ||
               wf_text_starts(entry, "LANG=") || wf_text_starts(entry, "LANGUAGE=") ||
               wf_text_starts(entry, "LOCPATH=");
    case 'T':
        return wf_text_starts(entry, "TZ=") || wf_text_starts(entry, "TZDIR=");
    case 'H':
        return wf_text_starts(entry, "HOME=");
    case 'G':
        return wf_text_starts(entry, "GLIBC_TUNABLES=");
    case 'M':
        return wf_text_starts(entry, "MALLOC_");
    default:
        return false;
    }
}

/* Every component absolute: a relative or empty one follows the working directory, and a zygote's
 * is "/". */
static bool absolute_list(const char *list, const char *separators) {
    for (;;) {
        if (*list != '/')
            return false;
        list += wf_text_until(list, separators);
        if (*list == '\0')
            return true;
        list++;
    }
}

/* Like absolute_list, but a bare library name is looked up where libraries are. */
static bool preload_list(const char *list) {
    for (;;) {
        size_t size = wf_text_until(list, ": ");
        if (size > 0 && *list != '/' && memchr(list, '/', size) != NULL)
            return false;
        list += size;
        if (*list == '\0')
            return true;
        list++;
    }
}

static bool plain_warnings(const char *list) {
    for (;;) {
        size_t size = wf_text_until(list, ",");
        if (!wf_options_plain_filter(list, size))
            return false;
        list += size;
        if (*list == '\0')
            return true;
        list++;
    }
}

/* Variables that make the dynamic linker print, trace or audit do so at each start; a zygote starts
 * once. */
static const char *check_linker(const char *name, const char *value) {
    if (wf_text_starts(name, "LD_LIBRARY_PATH="))
        return absolute_list(value, ":;") ? NULL
                                          : "a relative or empty component in LD_LIBRARY_PATH";
    if (wf_text_starts(name, "LD_PRELOAD="))
        return preload_list(value) ? NULL : "a relative component in LD_PRELOAD";
    if (wf_text_starts(name, "LD_BIND_NOW=") || wf_text_starts(name, "LD_HWCAP_MASK="))
        return NULL;
    return "an LD_ variable that is not served warm";
}

static const char *check_python_variable(const char *name, const char *value) {
    static const char *const never[] = {
        "PYTHONINSPECT=",           "PYTHONVERBOSE=",           "PYTHONDEBUG=",
        "PYTHONTRACEMALLOC=",       "PYTHONDUMPREFS",           "PYTHONPERFSUPPORT=",
        "PYTHONPROFILEIMPORTTIME=", "PYTHONMALLOCSTATS=",       "PYTHON_PERF_JIT_SUPPORT=",
        "PYTHON_PRESITE=",          "PYTHONCOERCECLOCALE=warn", /* prints at each start */
    };
    static const char *const absolute[] = { "PYTHONHOME=", "PYTHONPATH=", "PYTHONUSERBASE=",
                                            "PYTHONPYCACHEPREFIX=" };
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (wf_text_starts(name, never[i]))
            return "a PYTHON variable that is not served warm";
    for (size_t i = 0; i < sizeof absolute / sizeof *absolute; i++)
        if (wf_text_starts(name, absolute[i]) && !absolute_list(value, ":"))
            return "a relative or empty component in a PYTHON path variable";
    if (wf_text_starts(name, "PYTHONWARNINGS=") && !plain_warnings(value))
        return "an unusual PYTHONWARNINGS";
    return NULL;
}

static const char *check_variable(const char *entry) {
    const char *equal = strchr(entry, '=');
    if (equal == NULL ||
        equal[1] == '\0') /* empty: python and the dynamic linker take it as unset */
        return NULL;
    if (wf_text_starts(entry, "PYTHON"))
        return check_python_variable(entry, equal + 1);
    if (wf_text_starts(entry, "LD_"))
        return check_linker(entry, equal + 1);
    return NULL;
}

void wf_context_init(struct wf_context *ctx, uint32_t argc, char *const *argv, char *const *envp) {
    static const struct wf_span none = { (const uint8_t *)"", 0 };
    ctx->argc = argc;
    ctx->argv = argv;
    ctx->envp = envp;
    ctx->zygote = ctx->preload = ctx->init = none;
    ctx->python[0] = '\0';
    wf_options_scan(argc, argv, &ctx->command);
    ctx->cold = ctx->command.cold;
    uint32_t i = 0;
    for (; envp[i] != NULL; i++) {
        const char *cold = NULL;
        if (shapes(envp[i]))
            cold = check_variable(envp[i]);
        else if (envp[i][0] == 'W' && wf_text_starts(envp[i], "WARMFORK_COLD=") &&
                 envp[i][14] != '\0' && strcmp(envp[i] + 14, "0") != 0)
            cold = "WARMFORK_COLD";
        if (cold != NULL && ctx->cold == NULL)
            ctx->cold = cold;
    }
    ctx->envc = i;
}

int wf_context_python(struct wf_context *ctx, const char *wanted, struct wf_err *err) {
    if (wf_python_find(wanted, ctx->envp, ctx->python, err) < 0)
        return -1;
    if (ctx->python[0] != '/' && ctx->cold == NULL)
        ctx->cold = "the interpreter's path is not absolute";
    return 0;
}

static void hash_text(struct wf_hash *h, const char *text) { wf_hash_field(h, text, strlen(text)); }

static void hash_file(struct wf_hash *h, const struct stat *st) {
    const uint64_t facts[5] = { (uint64_t)st->st_dev, (uint64_t)st->st_ino, (uint64_t)st->st_size,
                                (uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec };
    wf_hash_field(h, facts, sizeof facts);
}

/* pyvenv.cfg beside the interpreter or one directory up, where python looks for it too. */
static void hash_pyvenv(struct wf_hash *h, const char *python) {
    static const char name[] = "pyvenv.cfg";
    char path[WF_PATH_ROOM + sizeof name];
    struct stat st;
    size_t size = strlen(python);
    memcpy(path, python, size + 1);
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            break;
        memcpy(slash + 1, name, sizeof name);
        if (stat(path, &st) == 0) {
            hash_text(h, path);
            hash_file(h, &st);
            return;
        }
        *slash = '\0';
    }
    hash_text(h, "");
}

static int hash_interpreter(struct wf_hash *h, const struct wf_context *ctx, struct wf_err *err) {
    struct stat st;
    if (stat(ctx->python, &st) != 0)
        return wf_err_sys(err, "stat", ctx->python);
    hash_text(h, ctx->python);
    hash_file(h, &st);
    hash_pyvenv(h, ctx->python);
    return 0;
}

static void hash_options(struct wf_hash *h, const struct wf_context *ctx) {
    const struct wf_command *c = &ctx->command;
    for (uint32_t i = 1; i <= c->options; i++)
        hash_text(h, ctx->argv[i]);
    if (c->glued > 0)
        wf_hash_field(h, ctx->argv[c->options + 1], c->glued);
    hash_text(h, c->mode == WF_MODE_MODULE ? "-m" : "");
}

/* In sorted order, so that the order of the environment does not matter; entries of one name keep
 * theirs, because the first of them is the one that counts. */
static int hash_variables(struct wf_hash *h, char *const *envp, struct wf_err *err) {
    const char *found[SHAPING_MAX];
    size_t count = 0;
    for (; *envp != NULL; envp++) {
        if (!shapes(*envp))
            continue;
        if (count == SHAPING_MAX)
            return wf_err_msg(err, "more than %d variables that shape the interpreter",
                              SHAPING_MAX);
        size_t name = wf_text_until(*envp, "="), at = count++;
        for (; at > 0 && strncmp(found[at - 1], *envp, name + 1) > 0; at--)
            found[at] = found[at - 1];
        found[at] = *envp;
    }
    for (size_t i = 0; i < count; i++)
        hash_text(h, found[i]);
    hash_text(h, "");
    return 0;
}

int wf_context_key(struct wf_context *ctx, struct wf_err *err) {
    static const char protocol[] = { WF_PROTOCOL };
    struct wf_hash base, own;
    wf_hash_init(&base);
    wf_hash_field(&base, protocol, sizeof protocol);
    if (hash_interpreter(&base, ctx, err) < 0 || wf_place_get_quick(&ctx->place, err) < 0)
        return -1;
    hash_options(&base, ctx);
    if (hash_variables(&base, ctx->envp, err) < 0)
        return -1;
    wf_hash_field(&base, &ctx->place, sizeof ctx->place);
    own = base;
    wf_hash_field(&base, "", 0);
    wf_hash_field(&base, "", 0);
    wf_hash_field(&base, "", 0);
    wf_hash_done(&base, ctx->base_key);
    wf_hash_field(&own, ctx->zygote.data, ctx->zygote.size);
    wf_hash_field(&own, ctx->preload.data, ctx->preload.size);
    wf_hash_field(&own, ctx->init.data, ctx->init.size); /* a zygote defined anew is another one */
    wf_hash_done(&own, ctx->key);
    return 0;
}
