/* What the rest of the zygote needs of the interpreter, looked up once. */
#include "zygote/python.h"

#include "base/err.h"

#include <dlfcn.h>
#include <string.h>

struct zy_python zp;

PyObject *zp_find(PyObject *dict, PyObject *key) {
    PyObject *value = PyDict_GetItemWithError(dict, key);
    if (value == NULL)
        PyErr_Clear();
    return value;
}

PyObject *zp_get(PyObject *dict, const char *name) {
    PyObject *key = PyUnicode_FromString(name);
    if (key == NULL) {
        PyErr_Clear();
        return NULL;
    }
    PyObject *value = zp_find(dict, key);
    Py_DECREF(key);
    return value;
}

/* Imports a module and takes it out of sys.modules again if the bare interpreter does not have it:
 * a program must not find it there. */
static PyObject *import_unseen(const char *name) {
    PyObject *module = PyImport_ImportModule(name);
    if (module != NULL && zp_get(zp.bare_modules, name) == NULL &&
        PyDict_DelItemString(zp.modules, name) < 0)
        Py_CLEAR(module);
    return module;
}

PyObject *zp_function(const char *module, const char *name) {
    PyObject *m = import_unseen(module);
    if (m == NULL)
        return NULL;
    PyObject *value = PyObject_GetAttrString(m, name);
    Py_DECREF(m);
    return value;
}

static int find_functions(void) {
    *(void **)&zp.run_file = dlsym(RTLD_DEFAULT, "PyRun_FileExFlags");
    *(void **)&zp.compile = dlsym(RTLD_DEFAULT, "Py_CompileStringExFlags");
    *(void **)&zp.audit = dlsym(RTLD_DEFAULT, "PySys_Audit");
    *(void **)&zp.format_unraisable = dlsym(RTLD_DEFAULT, "PyErr_FormatUnraisable");
    if (zp.run_file == NULL || zp.compile == NULL || zp.audit == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this interpreter does not export PyRun_FileExFlags");
        return -1;
    }
    return 0;
}

static int find_version(void) {
    PyObject *info = zp_get(zp.sys_dict, "version_info"), *flags = zp_get(zp.sys_dict, "flags");
    PyObject *minor = info ? PySequence_GetItem(info, 1) : NULL;
    if (minor == NULL || flags == NULL)
        return -1;
    zp.minor = (int)PyLong_AsLong(minor);
    Py_DECREF(minor);
    /* Only what was tested: a newer python runs cold until we know how its life begins and ends. */
    if (zp.minor < 10 || zp.minor > 13) {
        PyErr_Format(PyExc_RuntimeError, "python 3.%d is not supported yet", zp.minor);
        return -1;
    }
    PyObject *safe = PyObject_GetAttrString(flags, zp.minor >= 11 ? "safe_path" : "isolated");
    if (safe == NULL)
        return -1;
    zp.safe_path = PyObject_IsTrue(safe);
    Py_DECREF(safe);
    return 0;
}

static int find_objects(void) {
    PyObject *gc = import_unseen("gc");
    int failed = gc == NULL || zy_collector_init(gc) < 0;
    Py_XDECREF(gc);
    if (failed)
        return -1;
    zp.environ_data = zp_function("posix", "environ"); /* os.environ wraps this very dict */
    zp.signal_signal = zp_function("_signal", "signal");
    zp.sig_ign = PyLong_FromLong(1);
    zp.file_loader = zp_function("_frozen_importlib_external", "SourceFileLoader");
    zp.atexit_run = zp_function("atexit", "_run_exitfuncs");
    zp.atexit_count = zp_function("atexit", "_ncallbacks");
    zp.gc_collect = zp_function("gc", "collect");
    zp.io_file = zp_function("_io", "FileIO");
    zp.io_buffered = zp_function("_io", "BufferedWriter");
    zp.io_random = zp_function("_io", "BufferedRandom");
    zp.io_text = zp_function("_io", "TextIOWrapper");
    if (zp.environ_data == NULL || zp.signal_signal == NULL || zp.file_loader == NULL ||
        zp.atexit_run == NULL || zp.atexit_count == NULL || zp.gc_collect == NULL ||
        zp.io_file == NULL || zp.io_buffered == NULL || zp.io_random == NULL ||
        zp.io_text == NULL) {
        return -1;
    }
    return 0;
}

/* A fresh __main__, in the order in which the interpreter fills it. */
static int find_main_defaults(void) {
    PyObject *builtin = zp_function("_frozen_importlib", "BuiltinImporter");
    PyObject *builtins = zp_get(zp.modules, "builtins");
    PyObject *name = PyUnicode_FromString("__main__"), *d = PyDict_New();
    PyObject *annotations = PyDict_New();
    if (builtin == NULL || builtins == NULL || name == NULL || d == NULL || annotations == NULL)
        return -1;
    int failed = PyDict_SetItemString(d, "__name__", name) |
                 PyDict_SetItemString(d, "__doc__", Py_None) |
                 PyDict_SetItemString(d, "__package__", Py_None) |
                 PyDict_SetItemString(d, "__loader__", builtin) |
                 PyDict_SetItemString(d, "__spec__", Py_None) |
                 PyDict_SetItemString(d, "__annotations__", annotations) |
                 PyDict_SetItemString(d, "__builtins__", builtins);
    Py_DECREF(annotations);
    Py_DECREF(builtin);
    Py_DECREF(name);
    zp.main_defaults = d;
    return failed ? -1 : 0;
}

int zp_modules_are_programs(PyObject *but) {
    /* Names only: values would keep modules alive past their end. */
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(zp.modules, &at, &key, &value);)
        if ((but == NULL || PyDict_GetItemWithError(but, key) == NULL) &&
            PyDict_SetItem(zp.bare_modules, key, Py_None) < 0)
            return -1;
    return 0;
}

int zp_init(void) {
    PyObject *sys = PyImport_ImportModule("sys");
    if (sys == NULL)
        return -1;
    zp.sys_dict = PyModule_GetDict(sys); /* borrowed: sys lives as long as the interpreter */
    Py_DECREF(sys);
    zp.modules = zp_get(zp.sys_dict, "modules");
    zp.path = zp_get(zp.sys_dict, "path");
    zp.bare_modules = zp.modules ? PyDict_Copy(zp.modules) : NULL;
    zp.main_module = zp.modules ? zp_get(zp.modules, "__main__") : NULL;
    if (zp.bare_modules == NULL || zp.path == NULL || zp.main_module == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "sys.modules or sys.path is missing");
        return -1;
    }
    if (zp_modules_are_programs(NULL) < 0)
        return -1;
    zp.main_dict = PyModule_GetDict(zp.main_module);
    if (find_functions() < 0 || find_version() < 0 || find_objects() < 0 ||
        find_main_defaults() < 0)
        return -1;
    return 0;
}

/* A new module rather than the old one emptied: what existed at freeze is out of the collector's
 * sight, and a __main__ that is would keep alive all it refers to. After an init section it must be
 * the same, for that section's functions. */
static int main_renew(void) {
    PyObject *fresh = zp.main_kept ? NULL : PyModule_New("__main__");
    if (zp.main_kept)
        return 0;
    if (fresh == NULL || PyDict_SetItemString(zp.modules, "__main__", fresh) < 0 ||
        (zp_get(zp.modules, "__mp_main__") != NULL && /* multiprocessing's second name for it */
         PyDict_SetItemString(zp.modules, "__mp_main__", fresh) < 0))
        return -1;
    Py_DECREF(fresh); /* sys.modules has it, and nobody else */
    zp.main_module = fresh;
    zp.main_dict = PyModule_GetDict(fresh);
    return 0;
}

int zp_main_reset(void) {
    if (main_renew() < 0)
        return -1;
    PyDict_Clear(zp.main_dict);
    int failed = 0;
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(zp.main_defaults, &at, &key, &value);) {
        PyObject *fresh = NULL; /* annotations are a dict that the program writes to */
        if (PyDict_Check(value) && PyUnicode_CompareWithASCIIString(key, "__annotations__") == 0)
            failed |= (fresh = PyDict_Copy(value)) == NULL;
        failed |= PyDict_SetItem(zp.main_dict, key, fresh ? fresh : value);
        Py_XDECREF(fresh);
    }
    return failed ? -1 : 0;
}

int zp_keep_main(void) {
    PyObject *kept = PyDict_Copy(zp.main_dict);
    if (kept == NULL)
        return -1;
    Py_DECREF(zp.main_defaults);
    zp.main_defaults = kept;
    zp.main_kept = true;
    return 0;
}

int zp_note_inherited(void) {
    PyObject *key, *value;
    Py_XDECREF(zp.inherited);
    zp.inherited = PyDict_New();
    if (zp.inherited == NULL)
        return -1;
    for (Py_ssize_t at = 0; PyDict_Next(zp.modules, &at, &key, &value);)
        if (PyDict_SetItem(zp.inherited, key, Py_None) < 0)
            return -1;
    return zp.hidden != NULL && PyDict_Update(zp.inherited, zp.hidden) < 0 ? -1 : 0;
}

long zp_atexit_count(void) {
    PyObject *n = PyObject_CallFunctionObjArgs(zp.atexit_count, NULL);
    long count = n ? PyLong_AsLong(n) : -1;
    Py_XDECREF(n);
    PyErr_Clear();
    return count;
}

static void sys_delete(const char *name) {
    if (zp_get(zp.sys_dict, name) != NULL && PyDict_DelItemString(zp.sys_dict, name) < 0)
        PyErr_Clear();
}

int zp_forget_boot(void) {
    static const char *const last[] = { "last_type", "last_value", "last_traceback", "last_exc" };
    for (size_t i = 0; i < sizeof last / sizeof *last; i++)
        sys_delete(last[i]);
    PyObject *hook = zp.excepthook ? zp.excepthook : zp_get(zp.sys_dict, "__excepthook__");
    if (hook == NULL || PyDict_SetItemString(zp.sys_dict, "excepthook", hook) < 0)
        return -1;
    /* The boot program's directory, which python put first, and what the import system noted of
     * both. */
    PyObject *cache = zp_get(zp.sys_dict, "path_importer_cache");
    PyObject *argv = zp_get(zp.sys_dict, "argv");
    PyObject *boot = argv ? PyList_GetItem(argv, 0) : NULL;
    if (cache != NULL && boot != NULL && PyDict_GetItemWithError(cache, boot) != NULL)
        PyDict_DelItem(cache, boot);
    PyErr_Clear();
    if (!zp.safe_path && PyList_Size(zp.path) > 0) {
        PyObject *dir = PyList_GetItem(zp.path, 0);
        if (cache != NULL && PyDict_GetItemWithError(cache, dir) != NULL)
            PyDict_DelItem(cache, dir);
        PyErr_Clear();
        if (PySequence_DelItem(zp.path, 0) < 0)
            return -1;
    }
    return zp_main_reset();
}

void zp_error_text(char *out, size_t size) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    PyObject *name = type ? PyObject_GetAttrString(type, "__name__") : NULL;
    PyObject *text = value ? PyObject_Str(value) : NULL;
    const char *n = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
    const char *t = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
    wf_fmt(out, size, "%s: %s", n ? n : "unknown error", t ? t : "(no text)");
    for (char *p = out; *p; p++)
        if (*p == '\n')
            *p = ' ';
    Py_XDECREF(name);
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    PyErr_Clear();
}

int zp_failed(struct wf_err *err, const char *what) {
    char text[256];
    zp_error_text(text, sizeof text);
    return wf_err_msg(err, "%s: %s", what, text);
}

int zp_call(PyObject *space, const char *function, PyObject *arg) {
    PyObject *done = PyObject_CallFunctionObjArgs(zp_get(space, function), arg, NULL);
    Py_XDECREF(done);
    return done ? 0 : -1;
}
