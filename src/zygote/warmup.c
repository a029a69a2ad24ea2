/* Warm-up: what the bare interpreter was built from, and a preload imported in forked candidates
 * until an attempt is clean. A module that fails, prints, or leaves threads, children or sockets
 * behind is left out and named. */
#include "zygote/attempt.h"

#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static PyObject *observe(PyObject *module, PyObject *on) {
    (void)module;
    zy_observe(on == Py_True);
    Py_INCREF(Py_None);
    return Py_None;
}

static PyMethodDef observe_def = { "observe", observe, METH_O, NULL };

static bool give_observe(PyObject *space) {
    PyObject *function = PyCFunction_New(&observe_def, NULL);
    int failed = function == NULL || PyDict_SetItemString(space, "observe", function) < 0;
    Py_XDECREF(function);
    return !failed;
}

static PyObject *load_namespace(struct wf_err *err) {
    char path[600], *text = NULL;
    wf_fmt(path, sizeof path, "%s/warmup.py", zy.libdir);
    if (wf_read_file(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
        return wf_err_sys(err, "open", path), NULL;
    struct zy_compiler_flags cf = { 0, zp.minor };
    PyObject *code = zp.compile(text, path, Py_file_input, &cf, -1), *space = PyDict_New(),
             *done = NULL;
    free(text);
    if (code != NULL && space != NULL &&
        PyDict_SetItemString(space, "__builtins__", zp_get(zp.modules, "builtins")) == 0 &&
        give_observe(space))
        done = PyEval_EvalCode(code, space, space);
    Py_XDECREF(code);
    if (done == NULL) {
        char what[256];
        zp_error_text(what, sizeof what);
        Py_CLEAR(space);
        wf_err_msg(err, "warmup.py: %s", what);
    }
    Py_XDECREF(done);
    return space;
}

/* Functions of warmup.py live in a cycle with their namespace: cleared, it all goes. */
static void drop_namespace(PyObject *space) {
    PyDict_Clear(space);
    Py_DECREF(space);
}

/* Hands each bytes object of a list to `each`; stops at the first failure. */
static int for_each_bytes(PyObject *list, int (*each)(const char *, size_t, struct wf_err *),
                          struct wf_err *err) {
    for (Py_ssize_t i = 0; i < PyList_Size(list); i++) {
        char *data;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyList_GetItem(list, i), &data, &size) < 0)
            return zp_failed(err, "warmup.py");
        if (each(data, (size_t)size, err) < 0)
            return -1;
    }
    return 0;
}

static int add_input(const char *name, size_t size, struct wf_err *err) {
    (void)err;
    if (size == 1 && name[0] == '*') /* os.environ was walked through */
        zy_inputs_all();
    zy_inputs_add(name, size);
    return 0;
}

/* By so much a file's time stamp may lie before the moment of its change. */
static long long stamp_grain_us(void) {
    struct timespec grain;
    return clock_getres(CLOCK_REALTIME_COARSE, &grain) == 0 ? grain.tv_nsec / 1000 + 1000 : 11000;
}

static bool changed_since(const struct stat *st) {
    long long changed = st->st_ctim.tv_sec * 1000000LL + st->st_ctim.tv_nsec / 1000;
    return changed >= zy.warming_since_us - stamp_grain_us();
}

static int is_stale(const char *path, struct wf_err *err) {
    zy.failed_why = WF_WHY_STALE;
    return wf_err_msg(err, "%s changed while it was being loaded", path);
}

/* A file that changed after warming up began may have been read before that: this zygote must not
 * serve. */
static int check_unchanged(const char *path, struct wf_err *err) {
    struct stat st;
    return stat(path, &st) == 0 && changed_since(&st) ? is_stale(path, err) : 0;
}

/* The same for what appeared in a directory. Imports make __pycache__ themselves, so that its own
 * stamp only says that a closer look is needed. */
static int check_directory(const char *path, struct wf_err *err) {
    struct stat st;
    if (stat(path, &st) < 0 || !changed_since(&st))
        return 0;
    DIR *dir = opendir(path);
    int stale = 0;
    for (struct dirent *d; dir != NULL && !stale && (d = readdir(dir)) != NULL;)
        if (d->d_name[0] != '.' && strcmp(d->d_name, "__pycache__") != 0 &&
            fstatat(dirfd(dir), d->d_name, &st, 0) == 0 && changed_since(&st))
            stale = is_stale(path, err);
    if (dir != NULL)
        closedir(dir);
    return stale;
}

static int add_watch(const char *path, size_t size, struct wf_err *err) {
    (void)size;
    return zy_watch_dir(path, err) < 0 ? -1 : check_directory(path, err);
}

static int add_file(const char *path, size_t size, struct wf_err *err) {
    (void)size;
    return zy_watch_file(path, err) < 0 ? -1 : check_unchanged(path, err);
}

static int watch_list(PyObject *space, const char *function,
                      int (*each)(const char *, size_t, struct wf_err *), struct wf_err *err) {
    PyObject *list = PyObject_CallFunctionObjArgs(zp_get(space, function), NULL);
    int failed = list == NULL ? zp_failed(err, function) : for_each_bytes(list, each, err);
    Py_XDECREF(list);
    return failed;
}

/* Files that were opened, by whatever code. */
static int watch_observed(struct wf_err *err) {
    const char *names;
    size_t size;
    if (zy_observed(ZY_OBSERVED_FILES, &names, &size, err) < 0)
        return -1;
    for (size_t at = 0; at < size; at += strlen(names + at) + 1) {
        if (names[at] == '/' && strncmp(names + at, "/proc/", 6) != 0 &&
            add_file(names + at, 0, err) < 0)
            return -1;
    }
    return 0;
}

/* Hands the paths that _observe.so has noted to `each`. */
static int for_each_observed(enum zy_observed kind, int (*each)(const char *, struct wf_err *),
                             struct wf_err *err) {
    const char *names;
    size_t size;
    if (zy_observed(kind, &names, &size, err) < 0)
        return -1;
    for (size_t at = 0; at < size; at += strlen(names + at) + 1)
        if (each(names + at, err) < 0)
            return -1;
    return 0;
}

/* What was looked at and there. Of a directory that is all; the rest of a file may have been of
 * interest (its time, its size). */
static int add_found(const char *path, struct wf_err *err) {
    struct stat st;
    if (lstat(path, &st) < 0)
        return is_stale(path, err);
    if (S_ISDIR(st.st_mode))
        return zy_watch_name(path, err);
    return zy_watch_file(path, err) < 0 ? -1 : check_unchanged(path, err);
}

static int add_missing(const char *path, struct wf_err *err) {
    struct stat st;
    if (zy_watch_name(path, err) < 0)
        return -1;
    return stat(path, &st) == 0 ? is_stale(path, err) : 0;
}

static int add_listed(const char *path, struct wf_err *err) {
    return zy_watch_list(path, err) < 0 ? -1 : check_directory(path, err);
}

/* A zygote for one directory is of no use to anyone when that has gone or been replaced. */
static int watch_here(struct wf_err *err) {
    const char *path;
    if (zy_here_asked(&path) != WF_ASKED_DIRECTORY)
        return 0;
    if (zy_watch_name(path, err) < 0)
        return -1;
    return zy_here_is_lost() ? is_stale(path, err) : 0;
}

static int watch_all(PyObject *space, struct wf_err *err) {
    zy_observe(false); /* what follows is our own looking */
    if (zy_watch_init(err) < 0 || watch_list(space, "directories", add_watch, err) < 0 ||
        watch_list(space, "files", add_file, err) < 0 || watch_observed(err) < 0 ||
        watch_here(err) < 0)
        return -1;
    if (for_each_observed(ZY_OBSERVED_FOUND, add_found, err) < 0 ||
        for_each_observed(ZY_OBSERVED_MISSING, add_missing, err) < 0)
        return -1;
    return for_each_observed(ZY_OBSERVED_LISTED, add_listed, err);
}

static long long realtime_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int note_names(PyObject *list, const char *what, struct wf_err *err) {
    int failed = list == NULL ? zp_failed(err, what) : for_each_bytes(list, add_input, err);
    Py_XDECREF(list);
    return failed;
}

/* After imports: what was consulted is known and bound, what changed is known, nothing changes any
 * more. */
static int settle(PyObject *space, struct wf_err *err) {
    PyObject *names = PyObject_CallFunctionObjArgs(zp_get(space, "recorded"), zp.environ_data,
                                                   NULL);
    if (note_names(names, "warmup.recorded", err) < 0 || zy_inputs_collect(zy.base, err) < 0 ||
        zy_here_collect(err) < 0)
        return -1;
    zy_inputs_bind(&zy.request);
    if (zy_changes_find(&zy.request, err) < 0)
        return -1;
    if (zy_reseed_find(space) < 0)
        return zp_failed(err, "warmup.generators");
    drop_namespace(space);
    if (zp_note_inherited() < 0 || zy_ending_init() < 0)
        return zp_failed(err, "sys.modules");
    if (zy_rehearse(err) < 0)
        return -1;
    zy_heap_freeze();
    return 0;
}

static int load(PyObject *space, const char *module) {
    PyObject *name = PyUnicode_FromString(module);
    int failed = name == NULL || zp_call(space, "load", name) < 0;
    Py_XDECREF(name);
    return failed ? -1 : 0;
}

/* 3.13 imports linecache for -c. It is imported here too, but kept aside: scripts share this
 * zygote, and must not find it in sys.modules. */
static int hide_linecache(PyObject *space) {
    PyObject *before = PyDict_Copy(zp.modules), *key, *value;
    zp.hidden = PyDict_New();
    if (before == NULL || zp.hidden == NULL || load(space, "linecache") < 0)
        return -1;
    int failed = 0;
    for (Py_ssize_t at = 0; PyDict_Next(zp.modules, &at, &key, &value);)
        if (PyDict_GetItemWithError(before, key) == NULL)
            failed |= PyDict_SetItem(zp.hidden, key, value);
    for (Py_ssize_t at = 0; PyDict_Next(zp.hidden, &at, &key, &value);)
        failed |= PyDict_DelItem(zp.modules, key);
    Py_DECREF(before);
    return failed ? -1 : 0;
}

/* What python itself imports for this way of naming a program, before any of the program's own
 * imports; -m is part of the context key. */
static int load_for_mode(PyObject *space) {
    if (zy.request.mode == WF_MODE_MODULE)
        return load(space, "runpy");
    return zp.minor >= 13 ? hide_linecache(space) : 0;
}

/* warmup.py needs os, which python -S does not load: a program must not find what it brought. */
static void forget_own_imports(void) {
    PyObject *names = zy.request.mode == WF_MODE_MODULE ? NULL : PyDict_Keys(zp.modules);
    for (Py_ssize_t i = 0; names != NULL && i < PyList_Size(names); i++)
        if (PyDict_GetItemWithError(zp.bare_modules, PyList_GetItem(names, i)) == NULL)
            PyDict_DelItem(zp.modules, PyList_GetItem(names, i));
    Py_XDECREF(names);
    PyErr_Clear();
}

int zy_warmup_base(struct wf_err *err) {
    PyObject *space = load_namespace(err);
    if (space == NULL)
        return -1;
    if (note_names(PyObject_CallFunctionObjArgs(zp_get(space, "constants"), NULL),
                   "warmup.constants", err) < 0)
        return -1;
    if (zp_call(space, "record", NULL) < 0)
        return zp_failed(err, "warmup.record");
    if (load_for_mode(space) < 0)
        return zp_failed(err, "runpy or linecache");
    if (watch_all(space, err) < 0)
        return -1;
    forget_own_imports();
    return settle(space, err);
}

/* The requester's environment, as the imports are to see it. Lies in the request, which is kept. */
static int enter_environment(struct wf_err *err) {
    struct zy_job job = { .request = zy.request };
    size_t room = (size_t)zy.request.envc + zy_changes_room() + 1;
    char **envp = calloc(room + 1, sizeof *envp), *s = (char *)(uintptr_t)zy.request.strings.data;
    if (envp == NULL)
        return wf_err_sys(err, "malloc", "environ");
    for (uint32_t i = 0; i < zy.request.argc; i++)
        s += strlen(s) + 1;
    for (uint32_t i = 0; i < zy.request.envc; i++, s += strlen(s) + 1)
        envp[i] = s;
    job.envp = envp;
    return zy_setup_environment(&job, err);
}

/* What the init section printed belongs to nobody's output: it is told to the daemon. */
static void tell_output(int output) {
    char text[2048];
    ssize_t got = pread(output, text, sizeof text - 1, 0);
    if (got <= 0)
        return;
    text[got] = '\0';
    zy_tell(WF_NOTE, 0, text);
}

/* What the init section imports must be what it would have found without a preload. */
static bool init_is_shadowed(const char *path, char *reason, size_t size) {
    struct zy_job job = { .has_path0 = true };
    char name[256];
    wf_fmt(job.path0, sizeof job.path0, "%.*s", (int)(strrchr(path, '/') - path), path);
    if (!zy_shadowed(&job, zp.modules, name, sizeof name))
        return false;
    wf_fmt(reason, size, "%s/%s hides a preloaded module", job.path0, name);
    return true;
}

static int run_init(PyObject *space, const struct zy_attempt *a, struct wf_err *err) {
    char path[4096], reason[400];
    if (zy.request.init.size == 0)
        return 0;
    wf_fmt(path, sizeof path, "%.*s", (int)zy.request.init.size,
           (const char *)zy.request.init.data);
    if (init_is_shadowed(path, reason, sizeof reason))
        return wf_err_msg(err, "init %s: %s", path, reason);
    PyObject *name = PyUnicode_DecodeFSDefault(path), *had = PyDict_Copy(zp.modules);
    int failed = name == NULL || had == NULL || zp_call(space, "init", name) < 0 ||
                 zp_modules_are_programs(had) < 0;
    Py_XDECREF(name);
    Py_XDECREF(had);
    if (failed)
        zp_error_text(reason, sizeof reason);
    /* It may do what a preload must not, for it says so by being one; but not leave behind what a
     * fork would lose. */
    struct zy_print *now = failed ? NULL : zy_print_take(-1, -1, err);
    if (!failed && (now == NULL || zy_print_differs(now, reason, sizeof reason)))
        failed = 1;
    free(now);
    PyObject *flushed = PyObject_CallMethod(zp_get(zp.sys_dict, "stdout"), "flush", NULL);
    Py_XDECREF(flushed);
    PyErr_Clear();
    tell_output(a->output);
    if (failed)
        return wf_err_msg(err, "init %s: %s", path, reason);
    return zp_keep_main() < 0 ? zp_failed(err, "__main__") : 0;
}

int zy_warmup_preload(struct wf_err *err) {
    struct zy_attempt a;
    struct timespec grain = { 0, stamp_grain_us() * 1000 };
    nanosleep(&grain, NULL); /* so that what was written just now is told from what will be */
    zy.warming_since_us = realtime_us();
    umask(zy.request.umask); /* for the caches that the imports write */
    PyObject *space = load_namespace(err);
    if (space == NULL || enter_environment(err) < 0 || zy_attempt_init(&a, err) < 0)
        return -1;
    zy_here_enter();
    zy_observe(true);
    if (zp_call(space, "record", NULL) < 0)
        return zp_failed(err, "warmup.record");
    if (zy_attempt_imports(&a, space, err) < 0)
        return -1;
    zy_observe(false);                       /* our own look at the directory is no input */
    if (a.left_out > 0 && zy_here_is_lost()) /* that may be why */
        return is_stale("the working directory", err);
    zy_here_leave();
    zy_observe(true);
    if (run_init(space, &a, err) < 0)
        return -1;
    zy_attempt_done(&a);
    if (watch_all(space, err) < 0)
        return -1;
    return settle(space, err);
}
