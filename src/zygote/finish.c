/* Ends a program as python ends: threads, atexit, streams, then its own objects; but without
 * finalising what was inherited, which would touch and copy every preloaded page (25-80 ms with
 * pandas or scikit-learn).
 *
 * 1 threads      non-daemon ones are joined: they may still print and register
 * 2 atexit       the interpreter is whole: callbacks may import
 * 3 finalizing   from here on other threads stand still, and signals have their default action
 * 4 streams      a failing flush of sys.stdout makes the status 120
 * 5 objects      __main__ and the modules imported since the fork go: __del__, files closed
 * 6 leftovers    what of the program inherited modules still hold (ending.c)
 * 7 files        what is still open and buffered is flushed; then C's streams
 * 8 descriptors  before the status: end of file on an inherited pipe must not wait for our exit
 * 9 status       then the client's end, then _exit */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include "base/io.h"
#include "channel/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

static Py_ssize_t size_of(PyObject *owner, const char *attr) {
    PyObject *value = PyObject_GetAttrString(owner, attr);
    Py_ssize_t size = value ? PyObject_Size(value) : -1;
    Py_XDECREF(value);
    PyErr_Clear();
    return size;
}

/* threading._shutdown() writes to pages that nobody could copy ahead (it cannot be rehearsed: it
 * works once). Where there is but the main thread, no callback, and nobody to look afterwards, it
 * is left out. */
static bool nothing_to_join(PyObject *threading) {
    PyObject *name = PyUnicode_FromString("threading");
    bool inherited = name != NULL && PyDict_GetItemWithError(zp.inherited, name) != NULL;
    Py_XDECREF(name);
    PyErr_Clear();
    return inherited && size_of(threading, "_active") == 1 && size_of(threading, "_limbo") == 0 &&
           size_of(threading, "_threading_atexits") == 0 && zp_atexit_count() == 0;
}

/* wait_for_thread_shutdown() of pylifecycle.c. An exception may be set (run.c, system_exit_code).
 */
static void step_threads(void) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *threading = zp_get(zp.modules, "threading");
    bool call = threading != NULL && threading != Py_None &&
                (type != NULL || !nothing_to_join(threading));
    if (type != NULL || value != NULL)
        PyErr_Restore(type, value, trace);
    PyObject *done = call ? PyObject_CallMethod(threading, "_shutdown", NULL) : NULL;
    if (PyErr_Occurred() && zp.format_unraisable != NULL)
        zp.format_unraisable("Exception ignored on threading shutdown");
    else if (PyErr_Occurred())
        PyErr_WriteUnraisable(threading);
    Py_XDECREF(done);
    while (Py_MakePendingCalls() < 0)
        PyErr_Clear();
}

static void step_atexit(void) {
    PyObject *done = PyObject_CallFunctionObjArgs(zp.atexit_run, NULL);
    if (done == NULL)
        PyErr_WriteUnraisable(zp.atexit_run);
    Py_XDECREF(done);
}

static bool is_closed(PyObject *file) {
    PyObject *closed = PyObject_GetAttrString(file, "closed");
    int is = closed ? PyObject_IsTrue(closed) : 0;
    Py_XDECREF(closed);
    PyErr_Clear();
    return is > 0;
}

/* flush_std_files() of pylifecycle.c. */
static int step_streams(void) {
    int status = 0;
    for (int i = 0; i < 2; i++) {
        PyObject *file = zp_get(zp.sys_dict, i == 0 ? "stdout" : "stderr");
        if (file == NULL || file == Py_None || is_closed(file))
            continue;
        PyObject *done = PyObject_CallMethod(file, "flush", NULL);
        if (done == NULL) {
            status = -1;
            if (i == 0 && zp.format_unraisable != NULL)
                zp.format_unraisable("Exception ignored on flushing sys.stdout");
            else if (i == 0)
                PyErr_WriteUnraisable(file);
            PyErr_Clear();
        }
        Py_XDECREF(done);
    }
    return status;
}

/* Names of sys.modules in order of import, from __main__ on those that came after the fork. */
static PyObject *own_modules(void) {
    /* Backwards and one at a time: a list of all the names would write to a page for each. */
    PyObject *back = PyObject_CallMethod(zp.modules, "__reversed__", NULL);
    PyObject *own = PyList_New(0), *main_name = PyUnicode_FromString("__main__"), *name;
    int failed = back == NULL || own == NULL || main_name == NULL;
    while (!failed && (name = PyIter_Next(back)) != NULL) {
        bool inherited = PyDict_GetItemWithError(zp.inherited, name) != NULL;
        failed = !inherited && PyList_Append(own, name) < 0;
        Py_DECREF(name);
        if (inherited)
            break;
    }
    failed = failed || PyErr_Occurred() || PyList_Append(own, main_name) < 0 ||
             PyList_Reverse(own) < 0;
    Py_XDECREF(back);
    Py_XDECREF(main_name);
    if (failed)
        Py_CLEAR(own);
    PyErr_Clear();
    return own;
}

static void collect(void) {
    PyObject *n = PyObject_CallFunctionObjArgs(zp.gc_collect, NULL);
    Py_XDECREF(n);
    PyErr_Clear();
}

/* What finalize_modules() sets to None, so that nothing can be imported and nobody is kept alive.
 */
static const char *const deleted[] = { "path",
                                       "argv",
                                       "ps1",
                                       "ps2",
                                       "last_type",
                                       "last_value",
                                       "last_traceback",
                                       "last_exc",
                                       "path_hooks",
                                       "path_importer_cache",
                                       "meta_path",
                                       "__interactivehook__" };
#define DELETED (sizeof deleted / sizeof *deleted)
static const char *const streams[][2] = { { "stdin", "__stdin__" },
                                          { "stdout", "__stdout__" },
                                          { "stderr", "__stderr__" } };
/* These names as the keys that they are, made once: a new string for each look costs as much as the
 * rest. */
static PyObject *deleted_key[DELETED], *stream_key[3][2], *import_key;

static int make_keys(void) {
    for (size_t i = 0; i < DELETED; i++)
        if ((deleted_key[i] = PyUnicode_InternFromString(deleted[i])) == NULL)
            return -1;
    for (size_t i = 0; i < 6; i++)
        if ((stream_key[i / 2][i % 2] = PyUnicode_InternFromString(streams[i / 2][i % 2])) == NULL)
            return -1;
    import_key = PyUnicode_InternFromString("__import__");
    return import_key != NULL ? 0 : -1;
}

/* sys.modules is emptied there, which makes the import of anything fail like this. Emptying ours
 * would touch every module; imports are refused at their door instead. */
static PyObject *refuse_import(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    PyErr_SetString(PyExc_ImportError, "sys.meta_path is None, Python is likely shutting down");
    return NULL;
}

static PyMethodDef refuse_import_def = { "__import__", refuse_import, METH_VARARGS, NULL };

static void close_imports(void) {
    PyObject *builtins = zp_get(zp.modules, "builtins");
    PyObject *refuse = PyCFunction_New(&refuse_import_def, NULL);
    if (builtins != NULL && PyModule_Check(builtins) && refuse != NULL) {
        PyDict_SetItem(PyModule_GetDict(builtins), import_key, refuse);
        if (zp_get(PyModule_GetDict(builtins), "_") != NULL)
            PyDict_SetItemString(PyModule_GetDict(builtins), "_", Py_None);
    }
    Py_XDECREF(refuse);
    for (size_t i = 0; i < DELETED; i++)
        if (zp_find(zp.sys_dict, deleted_key[i]) != NULL)
            PyDict_SetItem(zp.sys_dict, deleted_key[i], Py_None);
    for (size_t i = 0; i < 3; i++) {
        PyObject *first = zp_find(zp.sys_dict, stream_key[i][1]);
        PyDict_SetItem(zp.sys_dict, stream_key[i][0], first ? first : Py_None);
    }
    PyErr_Clear();
}

/* finalize_modules() of pylifecycle.c, for what is the program's own. Returns whether modules had
 * to be emptied: that leaves garbage, which is due for a collection. */
static bool step_objects(void) {
    PyObject *own = own_modules(), *weak = PyList_New(0);
    if (own == NULL || weak == NULL)
        return false;
    Py_ssize_t count = PyList_Size(own);
    /* Finalisers of garbage may still use the modules; a program that defined nothing and imported
     * nothing has none. */
    if (count > 1 || PyDict_Size(zp.main_dict) > PyDict_Size(zp.main_defaults))
        PyGC_Collect();
    close_imports();
    PyObject *kept = zp.main_kept ? zp.main_module
                                  : NULL; /* out of the collector's sight: cleared by hand */
    Py_XINCREF(kept);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyList_GetItem(own, i);
        PyObject *module = PyDict_GetItemWithError(zp.modules, name);
        PyObject *ref = module && PyModule_Check(module) ? PyWeakref_NewRef(module, NULL) : NULL;
        if (ref != NULL)
            PyList_Append(weak, ref);
        Py_XDECREF(ref);
        if (PyDict_SetItem(zp.modules, name, Py_None) < 0)
            PyErr_Clear();
    }
    if (zp_get(zp.modules, "__mp_main__") != NULL)
        PyDict_SetItemString(zp.modules, "__mp_main__", Py_None);
    collect();
    for (Py_ssize_t i = 1; i < count; i++) /* __main__ keeps its place: a rehearsal goes on */
        if (PyDict_DelItem(zp.modules, PyList_GetItem(own, i)) < 0)
            PyErr_Clear();
    bool again = false;
    for (Py_ssize_t i = PyList_Size(weak) - 1; i >= 0; i--) {
        PyObject *module = PyWeakref_GetObject(PyList_GetItem(weak, i)); /* borrowed */
        if (module == NULL || module == Py_None)
            continue;
        Py_INCREF(module);
        zy_ending_clear_module(module);
        Py_DECREF(module);
        again = true;
    }
    Py_XDECREF(kept);
    Py_DECREF(own);
    Py_DECREF(weak);
    PyErr_Clear();
    return again;
}

/* 0: text, 1: buffer, -1: neither. By type alone: most objects are neither, and there may be many.
 */
static int layer_of(PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    if (PyType_IsSubtype(type, (PyTypeObject *)zp.io_text))
        return 0;
    return PyType_IsSubtype(type, (PyTypeObject *)zp.io_buffered) ||
                   PyType_IsSubtype(type, (PyTypeObject *)zp.io_random)
               ? 1
               : -1;
}

/* What the program has put where it outlived the program's modules. A program that had the
 * inherited objects thawed (collector.c) has mixed them with its own: none of them are finalised
 * then. */
static PyObject *step_leftovers(bool garbage) {
    PyObject *all = zy_collector_own();
    if (all == NULL)
        return NULL;
    if (zy_ending_has_leftovers(all) && !zy_collector_thawed()) {
        zy_ending_leftovers(all);
    } else if (garbage) { /* that nothing will be heard of */
        Py_DECREF(all);
        collect();
    } else {
        return all;
    }
    return zy_collector_own();
}

/* Text layers before buffers: what they hand down must be flushed as well. `all`: the objects that
 * are left. */
static void step_files(PyObject *all) {
    for (int pass = 0; all != NULL && pass < 2; pass++) {
        for (Py_ssize_t i = 0; i < PyList_Size(all); i++) {
            PyObject *obj = PyList_GetItem(all, i);
            if (layer_of(obj) != pass || is_closed(obj))
                continue;
            PyObject *done = PyObject_CallMethod(obj, "flush", NULL);
            Py_XDECREF(done);
            PyErr_Clear();
        }
    }
    Py_XDECREF(all);
    PyErr_Clear();
    zy_stdio_flush(); /* inherited, so not among those */
    fflush(stdin);    /* gives a seekable stdin's read-ahead back to the caller, as exit() does */
    fflush(NULL);
}

static void close_all_but(int keep) {
    if (keep > 0)
        syscall(SYS_close_range, 0, keep - 1, 0);
    syscall(SYS_close_range, keep + 1, ~0u, 0);
}

static void send_status(struct zy_job *job) {
    uint8_t storage[64];
    struct wf_buf out;
    wf_buf_init_fixed(&out, storage, sizeof storage);
    struct wf_exited end = { .kind = job->status_kind, .value = job->status_value };
    if (!wf_encode_exited(&out, &end))
        return;
    struct iovec iov = { out.data, out.size };
    if (wf_channel_send(job->connection, WF_EXITED, 0, &iov, 1, NULL, 0, NULL) == 0)
        zy_tie_await_end(job->connection);
}

void zy_finish_look(void) {
    PyObject *own = own_modules();
    for (size_t i = 0; i < DELETED; i++)
        zp_find(zp.sys_dict, deleted_key[i]);
    Py_XDECREF(own);
    PyErr_Clear();
}

void zy_finish_rehearse(struct zy_job *job) {
    (void)job;
    PyObject *module = zp.main_module; /* borrowed from sys.modules, which drops it here */
    PyObject *builtins = PyModule_GetDict(zp_get(zp.modules, "builtins"));
    PyObject *kept[DELETED], *import = zp_get(builtins, "__import__");
    Py_INCREF(module);
    Py_XINCREF(import);
    if (import_key == NULL && make_keys() < 0)
        _exit(3);
    for (size_t i = 0; i < DELETED; i++) {
        kept[i] = zp_find(zp.sys_dict, deleted_key[i]);
        Py_XINCREF(kept[i]);
    }
    step_streams();
    if (step_objects())
        collect();
    step_files(zy_collector_own());
    for (size_t i = 0; i < DELETED; i++) {
        if (kept[i] != NULL)
            PyDict_SetItem(zp.sys_dict, deleted_key[i], kept[i]);
        Py_XDECREF(kept[i]);
    }
    PyDict_SetItemString(builtins, "__import__", import);
    PyDict_SetItemString(zp.modules, "__main__", module);
    Py_XDECREF(import);
    Py_DECREF(module);
}

_Noreturn void zy_finish(struct zy_job *job) {
    zy_ending_block();
    step_threads();
    if (zp_atexit_count() != 0)
        step_atexit();
    zy_ending_begin();
    int failed = step_streams();
    zy_ending_signals();
    bool garbage = step_objects();
    step_files(step_leftovers(garbage));
    if (failed && job->status_kind == WF_END_EXIT)
        job->status_value = 120;
    bool tell = job->owner == getpid();
    bool connected = tell && job->connection >= 0 && zy_is_connection(job, job->connection);
    zy_terminal_leave();
    if (tell) { /* the hang-up of a terminal that goes with the client is no reason to die */
        const uint64_t all = ~0ull;
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    }
    close_all_but(connected ? job->connection : -1);
    if (connected)
        send_status(job);
    else if (tell && job->notices)
        zy_tie_tell_end(job);
    if (zy.learning)
        zy_pages_learn();
    if (job->status_kind == WF_END_SIGNAL) {
        sigset_t set;
        signal((int)job->status_value, SIG_DFL);
        sigfillset(&set);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        kill(getpid(), (int)job->status_value);
    }
    _exit((int)job->status_value);
}
