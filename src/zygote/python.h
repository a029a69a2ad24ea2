/* What is looked up in the interpreter once, at warm-up. The extension is built for the stable ABI;
 * functions outside it are found with dlsym in the running interpreter, so that one binary
 * serves 3.10 and newer. */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdio.h>

struct zy_compiler_flags {
    int flags, feature_version;
}; /* PyCompilerFlags since 3.8 */

struct zy_python {
    int minor; /* of 3.minor */
    PyObject *(*run_file)(FILE *, const char *, int, PyObject *, PyObject *, int,
                          struct zy_compiler_flags *);
    PyObject *(*compile)(const char *, const char *, int, struct zy_compiler_flags *, int);
    int (*audit)(const char *, const char *, ...);
    void (*format_unraisable)(const char *, ...); /* 3.13 and newer, else NULL */

    PyObject *sys_dict, *modules, *main_module, *main_dict;
    PyObject *main_defaults; /* dict: what a fresh __main__ holds */
    bool main_kept;          /* __main__ is the init section's */
    PyObject *environ_data;  /* posix.environ, which is os.environ's dict of bytes */
    PyObject *path;          /* sys.path */
    PyObject *signal_signal, *sig_ign;
    PyObject *bare_modules;              /* dict: names in sys.modules without any preload */
    PyObject *excepthook;                /* sys.excepthook before ours, or NULL */
    PyObject *file_loader;               /* importlib's SourceFileLoader */
    PyObject *atexit_run, *atexit_count; /* atexit._run_exitfuncs, atexit._ncallbacks */
    PyObject *gc_collect;
    PyObject *io_file;     /* io.FileIO */
    PyObject *io_buffered; /* io.BufferedWriter */
    PyObject *io_random;   /* io.BufferedRandom */
    PyObject *io_text;     /* io.TextIOWrapper */
    PyObject *hidden;      /* dict: linecache and what it imports, kept for -c (3.13), or NULL */
    PyObject *inherited;   /* dict: names in sys.modules at freeze; newer ones are the program's */
    int gc_was_enabled;
    int safe_path;
};

extern struct zy_python zp;

/* suit.c: after set-up of directory and path, does a file beside the script hide one of `modules`
 * (a dict) that is not the bare interpreter's own? */
struct zy_job;
bool zy_shadowed(const struct zy_job *job, PyObject *modules, char *ret_name, size_t size);

/* collector.c: makes gc's functions show what was inherited, too. -1 with a Python exception. */
int zy_collector_init(PyObject *gc);
PyObject *zy_collector_own(void); /* new list: what the collector sees without that; or NULL */
bool zy_collector_thawed(void);   /* the program has asked: own and inherited are mixed */
void zy_collector_freeze(void);   /* what there is now is inherited */
/* reseed.c: after imports, with warmup.py's namespace. -1 with a Python exception. */
int zy_reseed_find(PyObject *space);
/* ending.c: _PyModule_ClearDict: names with one underscore first, then the others. */
void zy_ending_clear_module(PyObject *module);
/* Whether one of these objects has a finaliser (our standard streams aside). */
bool zy_ending_has_leftovers(PyObject *all);
/* Ends what is left of the program, and sys and builtins with it. Takes over the reference. */
void zy_ending_leftovers(PyObject *all);
bool zy_stdio_has(PyObject *obj); /* stdio.c: is it (part of) one of the standard streams? */

/* What a module has under that name, for us alone: a program does not find the module loaded by it.
 * New reference, or NULL with an exception. */
PyObject *zp_function(const char *module, const char *name);
/* What is in sys.modules now, but for the names in the dict `but`, is what a program finds there
 * cold, too: in the bare interpreter, or because the init section has imported it. */
int zp_modules_are_programs(PyObject *but);
/* Looks everything up. -1 with a Python exception. */
int zp_init(void);
/* config.c: the program's arguments and its sys.path[0] (NULL: none; false: there is no telling
 * where it belongs) as subinterpreters will have them. To be found while sys still has the boot
 * program's. */
void zy_config_find(void);
void zy_config_arguments(PyObject *argv, PyObject *orig_argv);
bool zy_config_path0(PyObject *path0);
/* Forgets the boot program: __main__, sys.argv, sys.path[0], sys.last_*, the excepthook. */
int zp_forget_boot(void);
/* How many callbacks atexit has; -1 when that cannot be told. */
long zp_atexit_count(void);
/* Puts __main__ back to what a fresh interpreter has. */
int zp_main_reset(void);
/* What __main__ holds now is what every program finds there (the init section's names). */
int zp_keep_main(void);
/* Notes the names in sys.modules: newer ones are the program's own. */
int zp_note_inherited(void);
/* Writes the current exception as one line "Type: text" and clears it. */
void zp_error_text(char *out, size_t size);
/* Borrowed item of a dict by C string; NULL without exception when missing. */
PyObject *zp_get(PyObject *dict, const char *name);
PyObject *zp_find(PyObject *dict, PyObject *key); /* the same by a key that is there already */
/* Fills `err` with "what: Type: text" from the current exception, clears it, and returns -1. */
struct wf_err;
int zp_failed(struct wf_err *err, const char *what);
/* Calls namespace[function](arg), or () when `arg` is NULL, and drops the result. -1 with an
 * exception. */
int zp_call(PyObject *space, const char *function, PyObject *arg);
