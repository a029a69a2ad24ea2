/* Runs the program as Py_RunMain would (Modules/main.c, Python/pythonrun.c), with one difference:
 * SystemExit is handled here rather than in PyErr_Print, which would finalise the whole interpreter
 * and touch every preloaded page. */
#include "zygote/zygote.h"
#include "base/io.h"
#include "zygote/python.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IGNORE_COOKIE 0x0800 /* PyCF_IGNORE_COOKIE */
#define ZIP_TAIL 65557       /* end-of-central-directory record and the longest comment */

static struct zy_compiler_flags compiler_flags(int flags) {
    return (struct zy_compiler_flags){ flags, zp.minor };
}

/* PyObject_Print(object, stderr, Py_PRINT_RAW), which is not in the stable ABI. */
static void print_plainly(PyObject *object) {
    PyObject *text = PyObject_Str(object);
    PyObject *bytes = text ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;
    if (bytes != NULL)
        fwrite(PyBytes_AsString(bytes), 1, (size_t)PyBytes_Size(bytes), stderr);
    Py_XDECREF(bytes);
    Py_XDECREF(text);
    fflush(stderr);
}

static void print_exit_text(PyObject *text) {
    PyObject *err = zp_get(zp.sys_dict, "stderr");
    if (err != NULL && err != Py_None)
        PyFile_WriteObject(text, err, Py_PRINT_RAW);
    else
        print_plainly(text);
    PySys_WriteStderr("\n"); /* keeps an error that is set */
}

/* _Py_HandleSystemExit, for an exception known to be SystemExit. */
static int system_exit_code(void) {
    PyObject *type, *value, *trace, *code = NULL;
    PyErr_Fetch(&type, &value,
                &trace); /* not normalised: sys.exit(()) is told from sys.exit() that way */
    fflush(stdout);
    int status = 0;
    if (value != NULL && PyExceptionInstance_Check(value))
        code = PyObject_GetAttrString(value, "code");
    if (code == NULL) {
        PyErr_Clear();
        code = value;
        Py_XINCREF(code);
    }
    if (code != NULL && code != Py_None) {
        if (PyLong_Check(code)) {
            status = (int)PyLong_AsLong(code);
        } else {
            print_exit_text(code);
            status = 1;
        }
    }
    /* What failed in that is left set from 3.12 on; finalisation stumbles over it. */
    PyObject *left[3] = { NULL, NULL, NULL };
    if (zp.minor >= 12)
        PyErr_Fetch(&left[0], &left[1], &left[2]);
    PyErr_Clear();
    Py_XDECREF(code);
    /* As there: dropped, so that what the traceback holds is finalised. */
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    PyErr_Clear();
    PyErr_Restore(left[0], left[1], left[2]);
    return status;
}

void zy_run_exception(struct zy_job *job) {
    job->status_kind = WF_END_EXIT;
    job->status_value = 1;
    if (PyErr_ExceptionMatches(PyExc_SystemExit)) {
        job->status_value = (unsigned)system_exit_code() & 0xff;
        return;
    }
    if (PyErr_Occurred() == PyExc_KeyboardInterrupt) { /* exactly: as python decides it */
        job->status_kind = WF_END_SIGNAL;
        job->status_value = SIGINT;
    }
    PyErr_Print();
}

/* The result of running code: drops it, or deals with the exception. */
static void ended(struct zy_job *job, PyObject *result) {
    if (result == NULL) {
        zy_run_exception(job);
        return;
    }
    Py_DECREF(result);
    job->status_kind = WF_END_EXIT;
    job->status_value = 0;
}

static bool audit_failed(struct zy_job *job, int result) {
    if (result < 0)
        zy_run_exception(job);
    return result < 0;
}

/* Makes the linecache that was imported at warm-up, and what it imported, this program's: unless
 * some of it is there already, or a file beside the program would have been imported instead. */
static void reveal_linecache(struct zy_job *job) {
    char name[PATH_MAX];
    PyObject *key, *value;
    if (zp.hidden == NULL || zp_get(zp.modules, "linecache") != NULL)
        return;
    for (Py_ssize_t at = 0; PyDict_Next(zp.hidden, &at, &key, &value);)
        if (PyDict_GetItemWithError(zp.modules, key) != NULL)
            return;
    if (zy_shadowed(job, zp.hidden, name, sizeof name))
        return;
    /* Importing it would have looked into the program's directory first, and left an importer for
     * that. */
    bool looked = job->has_path0 &&
                  getcwd(name, sizeof name) != NULL; /* not where that was deleted */
    PyObject *path0 = looked ? PyUnicode_DecodeFSDefault(name) : NULL;
    PyObject *importer = path0 ? PyImport_GetImporter(path0) : NULL;
    Py_XDECREF(path0);
    Py_XDECREF(importer);
    PyErr_Clear();
    if (PyDict_Update(zp.modules, zp.hidden) < 0)
        PyErr_Clear();
}

/* 3.13 notes the source of -c in linecache, for tracebacks. */
static int register_source(PyObject *source) {
    PyObject *name = PyUnicode_FromString("<string>");
    PyObject *linecache = PyImport_ImportModule("linecache");
    PyObject *done = NULL;
    if (linecache != NULL && name != NULL)
        done = PyObject_CallMethod(linecache, "_register_code", "OOO", name, source, name);
    Py_XDECREF(linecache);
    Py_XDECREF(name);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static void run_command(struct zy_job *job) {
    PyObject *text = PyUnicode_DecodeFSDefault(job->text);
    if (text == NULL || audit_failed(job, zp.audit("cpython.run_command", "O", text))) {
        Py_XDECREF(text);
        return;
    }
    PyObject *bytes = PyUnicode_AsUTF8String(text);
    if (bytes == NULL) {
        Py_DECREF(text);
        PySys_WriteStderr("Unable to decode the command from the command line:\n");
        zy_run_exception(job);
        return;
    }
    struct zy_compiler_flags cf = compiler_flags(IGNORE_COOKIE);
    PyObject *code = zp.compile(PyBytes_AsString(bytes), "<string>", Py_file_input, &cf, -1);
    if (code != NULL && zp.minor >= 13 && !job->rehearsal) {
        reveal_linecache(job);
        if (register_source(text) < 0)
            Py_CLEAR(code);
    }
    Py_DECREF(bytes);
    Py_DECREF(text);
    PyObject *result = NULL;
    if (code != NULL && zp.audit("exec", "O", code) == 0)
        result = PyEval_EvalCode(code, zp.main_dict, zp.main_dict);
    Py_XDECREF(code);
    ended(job, result);
}

static void run_module(struct zy_job *job, const char *module, int alter_argv) {
    PyObject *name = PyUnicode_DecodeFSDefault(module);
    PyObject *runpy = name ? PyImport_ImportModule("runpy") : NULL;
    PyObject *run = runpy ? PyObject_GetAttrString(runpy, "_run_module_as_main") : NULL;
    PyObject *result = NULL;
    if (run != NULL)
        result = PyObject_CallFunctionObjArgs(run, name, alter_argv ? Py_True : Py_False, NULL);
    Py_XDECREF(run);
    Py_XDECREF(runpy);
    Py_XDECREF(name);
    ended(job, result);
}

/* flush_io() of pythonrun.c: between the end of a file's code and its traceback. */
static void flush_io(void) {
    static const char *const stream[] = { "stderr", "stdout" };
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    for (int i = 0; i < 2; i++) {
        PyObject *f = zp_get(zp.sys_dict, stream[i]);
        PyObject *done = f ? PyObject_CallMethod(f, "flush", NULL) : NULL;
        Py_XDECREF(done);
        PyErr_Clear();
    }
    PyErr_Restore(type, value, trace);
}

/* _PyRun_SimpleFileObject for source text. */
static void run_file(struct zy_job *job, FILE *file, const char *filename, bool close_it) {
    PyObject *name = PyUnicode_DecodeFSDefault(filename), *result = NULL, *loader = NULL;
    bool named = name != NULL && zp_get(zp.main_dict, "__file__") == NULL;
    PyObject *module = zp.main_module;
    Py_INCREF(module); /* for as long as it runs, which sys.getrefcount() shows */
    if (named && (PyDict_SetItemString(zp.main_dict, "__file__", name) < 0 ||
                  PyDict_SetItemString(zp.main_dict, "__cached__", Py_None) < 0))
        goto done;
    if (close_it) {
        loader = name ? PyObject_CallFunction(zp.file_loader, "sO", "__main__", name) : NULL;
        if (loader == NULL || PyDict_SetItemString(zp.main_dict, "__loader__", loader) < 0)
            goto done;
    }
    struct zy_compiler_flags cf = compiler_flags(0);
    result = zp.run_file(file, filename, Py_file_input, zp.main_dict, zp.main_dict, close_it, &cf);
done:
    Py_XDECREF(loader);
    Py_XDECREF(name);
    flush_io();
    ended(job, result);
    if (named) {
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        if (PyDict_DelItemString(zp.main_dict, "__file__") < 0 ||
            PyDict_DelItemString(zp.main_dict, "__cached__") < 0)
            PyErr_Clear();
        PyErr_Restore(type, value, trace);
    }
    Py_DECREF(module);
}

static void run_script(struct zy_job *job) {
    PyObject *name = PyUnicode_DecodeFSDefault(job->script);
    int refused = name == NULL || audit_failed(job, zp.audit("cpython.run_file", "O", name));
    if (refused) {
        Py_XDECREF(name);
        return;
    }
    char python[PATH_MAX];
    wf_fmt(python, sizeof python, "%.*s", (int)job->request.python.size,
           (const char *)job->request.python.data);
    struct stat st;
    FILE *file = fopen(job->script, "rbe");
    job->status_kind = WF_END_EXIT;
    if (file == NULL) {
        int code = errno;
        PySys_FormatStderr("%s: can't open file %R: [Errno %d] %s\n", python, name, code,
                           strerror(code));
        job->status_value = 2;
    } else if (fstat(fileno(file), &st) == 0 && S_ISDIR(st.st_mode)) {
        PySys_FormatStderr("%s: %R is a directory, cannot continue\n", python, name);
        fclose(file);
        job->status_value = 1;
    } else if (Py_MakePendingCalls() < 0) {
        fclose(file);
        zy_run_exception(job);
    } else {
        run_file(job, file, job->script, true);
    }
    Py_DECREF(name);
}

static void run_stdin(struct zy_job *job) {
    if (Py_MakePendingCalls() < 0 || zp.audit("cpython.run_stdin", NULL) < 0) {
        zy_run_exception(job);
        return;
    }
    run_file(job, stdin, "<stdin>", false);
}

void zy_run(struct zy_job *job) {
    switch (job->request.mode) {
    case WF_MODE_COMMAND:
        run_command(job);
        break;
    case WF_MODE_MODULE:
        if (!audit_failed(job, zp.audit("cpython.run_module", "s", job->text)))
            run_module(job, job->text, 1);
        break;
    case WF_MODE_STDIN:
        run_stdin(job);
        break;
    default:
        if (job->importer)
            run_module(job, "__main__", 0);
        else
            run_script(job);
    }
}

/* Whether the file ends like a zip archive (or something made us unsure). */
static bool maybe_zip(int fd, off_t size) {
    static char tail[ZIP_TAIL];
    size_t want = size > ZIP_TAIL ? ZIP_TAIL : (size_t)size;
    ssize_t got = pread(fd, tail, want, size - (off_t)want);
    return got != (ssize_t)want || memmem(tail, want, "PK\005\006", 4) != NULL;
}

static int ask_importer(PyObject *path, struct zy_job *job) {
    PyObject *importer = PyImport_GetImporter(path);
    int is = importer == NULL ? -1 : importer != Py_None;
    Py_XDECREF(importer);
    if (is > 0 && PyList_Insert(zp.path, 0, path) < 0)
        return -1;
    if (is > 0)
        wf_fmt(job->path0, sizeof job->path0, "%s", job->script);
    return is;
}

int zy_run_find_importer(struct zy_job *job) {
    char cwd[PATH_MAX];
    if (job->text[0] == '/' || getcwd(cwd, sizeof cwd) == NULL)
        wf_fmt(job->script, sizeof job->script, "%s", job->text);
    else if (job->text[0] == '\0' || (zp.minor > 10 && strcmp(job->text, ".") == 0)) /* 3.10: /./ */
        wf_fmt(job->script, sizeof job->script, "%s", cwd);
    else
        wf_fmt(job->script, sizeof job->script, "%s/%s", cwd, job->text);

    PyObject *path = PyUnicode_DecodeFSDefault(job->script);
    PyObject *hooks = zp_get(zp.sys_dict, "path_hooks");
    PyObject *cache = zp_get(zp.sys_dict, "path_importer_cache");
    if (path == NULL || hooks == NULL || cache == NULL) {
        Py_XDECREF(path);
        return -1;
    }
    /* Asking the two standard hooks runs zipimport's Python code (30 us and more) only to hear that
     * a source file is no archive. We look at its end ourselves and note the answer where they
     * would. */
    struct stat st;
    int fd = open(job->script, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), is;
    bool source = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                  PyList_Size(hooks) == 2 && !maybe_zip(fd, st.st_size);
    unsigned char magic[2];
    bool compiled = source && pread(fd, magic, 2, 0) == 2 &&
                    (magic[0] | magic[1] << 8) == (PyImport_GetMagicNumber() & 0xffff);
    wf_close(&fd);
    if (compiled) /* under whatever name: python would run it as bytecode */
        PyErr_SetString(PyExc_ValueError, "the program is compiled");
    if (compiled)
        is = -1;
    else if (source)
        is = PyDict_SetItem(cache, path, Py_None) < 0 ? -1 : 0;
    else
        is = ask_importer(path, job);
    Py_DECREF(path);
    return is;
}
