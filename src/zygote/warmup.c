/* Warm-up: what the bare interpreter was built from, and a preload imported in forked candidates until an attempt is
 * clean. A module that fails, prints, or leaves threads, children or sockets behind is left out and named. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include "base/io.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define MAX_MODULES 256
#define WORD_OK 0xffffffffu

static PyObject *load_namespace(struct wf_err *err)
{
    char path[600], *text = NULL;
    wf_fmt(path, sizeof path, "%s/warmup.py", zy.libdir);
    if (wf_read_file(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
        return wf_err_sys(err, "open", path), NULL;
    struct zy_compiler_flags cf = {0, zp.minor};
    PyObject *code = zp.compile(text, path, Py_file_input, &cf, -1), *space = PyDict_New(), *done = NULL;
    free(text);
    if (code != NULL && space != NULL &&
        PyDict_SetItemString(space, "__builtins__", zp_get(zp.modules, "builtins")) == 0)
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
static void drop_namespace(PyObject *space)
{
    PyDict_Clear(space);
    Py_DECREF(space);
}

static int python_failed(struct wf_err *err, const char *what)
{
    char text[256];
    zp_error_text(text, sizeof text);
    return wf_err_msg(err, "%s: %s", what, text);
}

/* Hands each bytes object of a list to `each`; stops at the first failure. */
static int for_each_bytes(PyObject *list, int (*each)(const char *, size_t, struct wf_err *), struct wf_err *err)
{
    for (Py_ssize_t i = 0; i < PyList_Size(list); i++) {
        char *data;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyList_GetItem(list, i), &data, &size) < 0)
            return python_failed(err, "warmup.py");
        if (each(data, (size_t)size, err) < 0)
            return -1;
    }
    return 0;
}

static int add_input(const char *name, size_t size, struct wf_err *err)
{
    (void)err;
    zy_inputs_add(name, size);
    return 0;
}

static int add_watch(const char *path, size_t size, struct wf_err *err)
{
    (void)size;
    return zy_watch_dir(path, err);
}

static int watch_all(PyObject *space, struct wf_err *err)
{
    zy.watch = wf_move_fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC), ZY_FD_BASE);
    if (zy.watch < 0)
        return wf_err_sys(err, "inotify_init1", "files that were loaded");
    PyObject *dirs = PyObject_CallFunctionObjArgs(zp_get(space, "directories"), NULL);
    int failed = dirs == NULL ? python_failed(err, "warmup.directories") : for_each_bytes(dirs, add_watch, err);
    Py_XDECREF(dirs);
    return failed;
}

static int note_names(PyObject *list, const char *what, struct wf_err *err)
{
    int failed = list == NULL ? python_failed(err, what) : for_each_bytes(list, add_input, err);
    Py_XDECREF(list);
    return failed;
}

/* After imports: what was consulted is known and bound, what changed is known, nothing changes any more. */
static int settle(PyObject *space, struct wf_err *err)
{
    PyObject *names = PyObject_CallFunctionObjArgs(zp_get(space, "recorded"), zp.environ_data, NULL);
    if (note_names(names, "warmup.recorded", err) < 0 || zy_inputs_collect(zy.base, err) < 0)
        return -1;
    zy_inputs_record(false);
    zy_inputs_bind(&zy.request);
    if (zy_changes_find(&zy.request, err) < 0)
        return -1;
    drop_namespace(space);
    if (zp_note_inherited() < 0)
        return python_failed(err, "sys.modules");
    zy_heap_freeze();
    return 0;
}

static int call_none(PyObject *space, const char *function, PyObject *arg)
{
    PyObject *done = PyObject_CallFunctionObjArgs(zp_get(space, function), arg, NULL);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static int load(PyObject *space, const char *module)
{
    PyObject *name = PyUnicode_FromString(module);
    int failed = name == NULL || call_none(space, "load", name) < 0;
    Py_XDECREF(name);
    return failed ? -1 : 0;
}

/* 3.13 imports linecache for -c. It is imported here too, but kept aside: scripts share this zygote, and must not find it in
 * sys.modules. */
static int hide_linecache(PyObject *space)
{
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

/* What python itself imports for this way of naming a program, before any of the program's own imports; -m is part of the
 * context key. */
static int load_for_mode(PyObject *space)
{
    if (zy.request.mode == WF_MODE_MODULE)
        return load(space, "runpy");
    return zp.minor >= 13 ? hide_linecache(space) : 0;
}

/* warmup.py needs os, which python -S does not load: a program must not find what it brought. */
static void forget_own_imports(void)
{
    PyObject *names = zy.request.mode == WF_MODE_MODULE ? NULL : PyDict_Keys(zp.modules);
    for (Py_ssize_t i = 0; names != NULL && i < PyList_Size(names); i++)
        if (PyDict_GetItemWithError(zp.bare_modules, PyList_GetItem(names, i)) == NULL)
            PyDict_DelItem(zp.modules, PyList_GetItem(names, i));
    Py_XDECREF(names);
    PyErr_Clear();
}

int zy_warmup_base(struct wf_err *err)
{
    PyObject *space = load_namespace(err);
    if (space == NULL)
        return -1;
    if (note_names(PyObject_CallFunctionObjArgs(zp_get(space, "constants"), NULL), "warmup.constants", err) < 0)
        return -1;
    if (call_none(space, "record", NULL) < 0)
        return python_failed(err, "warmup.record");
    if (load_for_mode(space) < 0)
        return python_failed(err, "runpy or linecache");
    if (watch_all(space, err) < 0)
        return -1;
    forget_own_imports();
    return settle(space, err);
}

/* The requester's environment, as the imports are to see it. Lies in the request, which is kept. */
static int enter_environment(struct wf_err *err)
{
    struct zy_job job = {.request = zy.request};
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

static int task_count(char *ret_names, size_t size)
{
    DIR *dir = opendir("/proc/self/task");
    int n = 0;
    size_t used = 0;
    ret_names[0] = '\0';
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] == '.')
            continue;
        n++;
        char path[300], name[64];
        wf_fmt(path, sizeof path, "/proc/self/task/%s/comm", d->d_name);
        int fd = atoi(d->d_name) == getpid() ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? 0 : read(fd, name, sizeof name - 1);
        wf_close(&fd);
        if (got > 1 && used < size)
            used += wf_fmt(ret_names + used, size - used, " %.*s", (int)got - 1, name);
    }
    if (dir != NULL)
        closedir(dir);
    return n;
}

/* Threads that end at a fork (OpenBLAS has handlers that do so) are no hazard: a fork that does nothing tells. */
static int threads_left(char *names, size_t size)
{
    pid_t pid = 0;
    if (task_count(names, size) <= 1)
        return 0;
    switch (zy_fork(&pid, NULL)) {
    case ZY_CHILD:
        _exit(0);
    case ZY_PARENT:
        waitpid(pid, NULL, 0);
        break;
    case ZY_FORK_FAILED:
        break;
    }
    return task_count(names, size) - 1;
}

/* A descriptor that cannot be shared by independent programs. */
static bool bad_descriptor(char *ret_what, size_t size)
{
    DIR *dir = opendir("/proc/self/fd");
    bool bad = false;
    for (struct dirent *d; dir != NULL && !bad && (d = readdir(dir)) != NULL;) {
        char target[128];
        int fd = atoi(d->d_name);
        ssize_t n = readlinkat(dirfd(dir), d->d_name, target, sizeof target - 1);
        if (n <= 0 || fd < 3 || fd >= ZY_FD_BASE || fd == dirfd(dir))
            continue;
        target[n] = '\0';
        bad = target[0] != '/'; /* socket:, pipe:, anon_inode: */
        if (bad)
            wf_fmt(ret_what, size, "%s", target);
    }
    if (dir != NULL)
        closedir(dir);
    return bad;
}

/* Why what was just imported must not be preloaded; false when there is no reason. */
static bool impure(int output, char *reason, size_t size)
{
    char what[160];
    struct stat st;
    siginfo_t info = {0};
    PyObject *flushed = PyObject_CallMethod(zp_get(zp.sys_dict, "stdout"), "flush", NULL);
    Py_XDECREF(flushed);
    PyErr_Clear();
    fflush(NULL);
    int threads;
    if (output >= 0 && fstat(output, &st) == 0 && st.st_size > 0)
        wf_fmt(reason, size, "wrote %ld bytes to stdout or stderr when imported", (long)st.st_size);
    else if ((threads = threads_left(what, sizeof what)) > 0)
        wf_fmt(reason, size, "left %d thread(s) running, and a fork would lose them:%s", threads, what);
    else if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
        wf_fmt(reason, size, "left a child process");
    else if (bad_descriptor(what, sizeof what))
        wf_fmt(reason, size, "left a descriptor open that programs cannot share: %s", what);
    else
        return false;
    return true;
}

struct attempt {
    char *module[MAX_MODULES];
    unsigned count;
    int tell;   /* write end of a pipe to the process that keeps count */
    int output; /* memfd on 1 and 2 */
};

/* What an attempt says of itself: one atomic write each. */
struct word {
    enum { WORD_TRYING, WORD_BAD, WORD_DONE } kind;
    unsigned index;
    char reason[400];
};

static void say(const struct attempt *a, const struct word *w)
{
    if (wf_write_full(a->tell, w, sizeof *w) < 0)
        _exit(1);
}

/* In the attempt's own process: imports everything, or says which module must not be and ends. */
static void import_all(const struct attempt *a, PyObject *space)
{
    struct word w = {0};
    for (w.index = 0; w.index < a->count; w.index++) {
        w.kind = WORD_TRYING; /* should the import kill us, this is our last word */
        say(a, &w);
        PyObject *name = PyUnicode_DecodeFSDefault(a->module[w.index]);
        bool failed = name == NULL || call_none(space, "load", name) < 0;
        if (failed)
            zp_error_text(w.reason, sizeof w.reason);
        Py_XDECREF(name);
        if (failed || impure(a->output, w.reason, sizeof w.reason)) {
            w.kind = WORD_BAD;
            say(a, &w);
            _exit(1);
        }
    }
    w.kind = WORD_DONE;
    say(a, &w);
}

/* The attempt's last word; how it died if it could not say. */
static struct word listen_to(int fd, pid_t pid)
{
    struct word w = {0}, next;
    while (wf_read_full(fd, &next, sizeof next) == sizeof next) {
        w = next;
        if (w.kind != WORD_TRYING)
            return w;
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        wf_fmt(w.reason, sizeof w.reason, "killed by signal %d when imported", WTERMSIG(status));
    else
        wf_fmt(w.reason, sizeof w.reason, "exited with status %d when imported", WEXITSTATUS(status));
    w.kind = WORD_BAD;
    return w;
}

/* Splits the preload list (commas, spaces) into names owned by `a`. */
static int split_names(struct attempt *a, struct wf_err *err)
{
    const char *list = (const char *)zy.request.preload.data, *end = list + zy.request.preload.size;
    while (list < end) {
        size_t size = 0;
        while (list + size < end && strchr(", \t\n", list[size]) == NULL)
            size++;
        if (size > 0 && a->count == MAX_MODULES)
            return wf_err_msg(err, "more than %d modules to preload", MAX_MODULES);
        if (size > 0 && (a->module[a->count++] = strndup(list, size)) == NULL)
            return wf_err_sys(err, "malloc", "a module's name");
        list += size + 1;
    }
    return 0;
}

static void leave_out(struct attempt *a, const struct word *w)
{
    char text[600];
    wf_fmt(text, sizeof text, "preload %s: %s", a->module[w->index], w->reason);
    zy_tell(WF_NOTE, 2, text);
    free(a->module[w->index]);
    memmove(a->module + w->index, a->module + w->index + 1,
            (a->count - w->index - 1) * sizeof *a->module);
    a->count--;
}

static void put_on(int fd, int target)
{
    if (fd >= 0)
        dup2(fd, target);
}

/* Forks attempts until one succeeds: returns in that process, which is the zygote then. The counting process ends. */
static int attempt_until_clean(struct attempt *a, PyObject *space, struct wf_err *err)
{
    for (;;) {
        int pair[2];
        pid_t pid = 0;
        if (pipe2(pair, O_CLOEXEC) < 0)
            return wf_err_sys(err, "pipe2", "an attempt to import");
        a->tell = wf_move_fd(pair[1], ZY_FD_BASE);
        pair[0] = wf_move_fd(pair[0], ZY_FD_BASE);
        switch (zy_fork(&pid, err)) {
        case ZY_FORK_FAILED:
            return -1;
        case ZY_CHILD:
            wf_close(&pair[0]);
            zy.zygote_pid = getpid();
            put_on(a->output, 1);
            put_on(a->output, 2);
            import_all(a, space);
            wf_close(&a->tell);
            return 0;
        case ZY_PARENT:
            break;
        }
        wf_close(&a->tell);
        struct word last = listen_to(pair[0], pid);
        wf_close(&pair[0]);
        if (last.kind == WORD_DONE)
            _exit(0);
        leave_out(a, &last);
        waitpid(pid, NULL, WNOHANG);
    }
}

/* What the init section printed belongs to nobody's output: it is told to the daemon. */
static void tell_output(int output)
{
    char text[2048];
    ssize_t got = pread(output, text, sizeof text - 1, 0);
    if (got <= 0)
        return;
    text[got] = '\0';
    zy_tell(WF_NOTE, 0, text);
}

static int run_init(PyObject *space, int output, struct wf_err *err)
{
    char path[4096];
    if (zy.request.init.size == 0)
        return 0;
    wf_fmt(path, sizeof path, "%.*s", (int)zy.request.init.size, (const char *)zy.request.init.data);
    PyObject *name = PyUnicode_DecodeFSDefault(path);
    int failed = name == NULL || call_none(space, "init", name) < 0;
    Py_XDECREF(name);
    char what[256], reason[400];
    if (failed)
        zp_error_text(what, sizeof what);
    impure(-1, reason, sizeof reason); /* flushes */
    tell_output(output);
    if (failed)
        return wf_err_msg(err, "init %s: %s", path, what);
    if (impure(-1, reason, sizeof reason))
        return wf_err_msg(err, "init %s: %s", path, reason);
    return zp_keep_main() < 0 ? python_failed(err, "__main__") : 0;
}

static void quiet_streams(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        put_on(null, i);
    wf_close(&null);
}

int zy_warmup_preload(struct wf_err *err)
{
    struct attempt a = {.tell = -1, .output = -1};
    PyObject *space = load_namespace(err);
    if (space == NULL || enter_environment(err) < 0 || split_names(&a, err) < 0)
        return -1;
    zy_inputs_record(true);
    a.output = wf_move_fd(memfd_create("warmfork-output", MFD_CLOEXEC), ZY_FD_BASE);
    if (call_none(space, "record", NULL) < 0)
        return python_failed(err, "warmup.record");
    if (attempt_until_clean(&a, space, err) < 0 || run_init(space, a.output, err) < 0)
        return -1;
    quiet_streams();
    wf_close(&a.output);
    for (unsigned i = 0; i < a.count; i++)
        free(a.module[i]);
    if (watch_all(space, err) < 0)
        return -1;
    return settle(space, err);
}
