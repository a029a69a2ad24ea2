/* What python does to itself when it ends and programs can tell: sys.is_finalizing() is true and
 * other threads stand still; signals have their default action again; and what a program has put
 * into modules that it did not import (builtins, sys, preloaded ones) is finalised with the rest.
 *
 * The last is rare and costs a walk through all modules, so it is done only when an object with a
 * finaliser has outlived the program's own modules. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define RUNTIME_WORDS 512 /* of _PyRuntime, among which the finalising thread is looked for */
#define TYPES 64

static struct {
    void *volatile *finalizing;      /* _PyRuntime's; NULL when it was not found */
    volatile int *blocked;           /* see find_blocked; NULL: nothing is */
    PyObject *builtins;              /* dict: what was in builtins at warm-up */
    void (*finalize)(PyObject *);    /* PyObject_CallFinalizer */
    PyObject *(*copy_context)(void); /* PyContext_CopyCurrent */
    PyObject *signal_get;            /* _signal.getsignal */
    PyObject *get_referents;         /* gc.get_referents */
} ending;

/* The word of _PyRuntime that makes Py_IsFinalizing() true. Its place differs from version to
 * version; nothing but that question runs while each word is tried. */
static void *volatile *find_finalizing(void) {
    int (*is_finalizing)(void);
    *(void **)&is_finalizing = dlsym(RTLD_DEFAULT, "Py_IsFinalizing");
    if (is_finalizing == NULL)
        *(void **)&is_finalizing = dlsym(RTLD_DEFAULT, "_Py_IsFinalizing");
    void *volatile *word = dlsym(RTLD_DEFAULT, "_PyRuntime");
    if (is_finalizing == NULL || word == NULL || is_finalizing())
        return NULL;
    for (size_t i = 0; i < RUNTIME_WORDS; i++) {
        if (word[i] != NULL)
            continue;
        word[i] = PyThreadState_Get();
        int found = is_finalizing();
        word[i] = NULL;
        if (found)
            return &word[i];
    }
    return NULL;
}

/* From 3.12.0 to 3.12.2 no thread may be started and nothing forked from the very beginning of
 * Py_FinalizeEx on, and so not by threads that are waited for or by callbacks of atexit either
 * (gh-113964). This flag of the interpreter's state says so: it follows next, id, id_refcount,
 * requires_idref, id_mutex and _initialized. */
static volatile int *find_blocked(void) {
    enum { ID = 8, INITIALIZED = 40, FINALIZING = 44 };
    const unsigned long *version = dlsym(RTLD_DEFAULT, "Py_Version");
    if (version == NULL || *version < 0x030c0000 || *version >= 0x030c0300)
        return NULL;
    char *state = (char *)PyInterpreterState_Get();
    int64_t id;
    int flags[2];
    memcpy(&id, state + ID, sizeof id);
    memcpy(flags, state + INITIALIZED, sizeof flags);
    return id == 0 && flags[0] == 1 && flags[1] == 0 ? (int *)(void *)(state + FINALIZING) : NULL;
}

int zy_ending_init(void) {
    PyObject *builtins = zp_get(zp.modules, "builtins");
    if (ending.signal_get == NULL) { /* in a base zygote; a candidate has it all from there */
        ending.finalizing = find_finalizing();
        ending.blocked = find_blocked();
        *(void **)&ending.finalize = dlsym(RTLD_DEFAULT, "PyObject_CallFinalizer");
        *(void **)&ending.copy_context = dlsym(RTLD_DEFAULT, "PyContext_CopyCurrent");
        ending.signal_get = zp_function("_signal", "getsignal");
        ending.get_referents = zp_function("gc", "get_referents");
    }
    Py_XDECREF(ending.builtins);
    ending.builtins = builtins ? PyDict_Copy(PyModule_GetDict(builtins)) : NULL;
    bool complete = ending.builtins != NULL && ending.signal_get != NULL &&
                    ending.get_referents != NULL;
    return complete ? 0 : -1;
}

void zy_ending_block(void) {
    if (ending.blocked != NULL)
        *ending.blocked = 1;
}

void zy_ending_begin(void) {
    if (ending.finalizing != NULL)
        *ending.finalizing = PyThreadState_Get();
}

/* _PySignal_Fini: those that a Python function handled. */
void zy_ending_signals(void) {
    struct sigaction action;
    if (sigaction(SIGINT, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
        signal(SIGINT, SIG_DFL);
    if (zp_get(zp.modules, "signal") == NULL)
        return;
    for (int sig = 1; sig < 65; sig++) {
        if (sigaction(sig, NULL, &action) < 0 ||
            (sig != SIGINT && (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)))
            continue;
        PyObject *handler = PyObject_CallFunction(ending.signal_get, "i", sig);
        PyObject *done = handler != NULL && PyCallable_Check(handler)
                             ? PyObject_CallFunction(zp.signal_signal, "ii", sig, 0)
                             : NULL;
        Py_XDECREF(done);
        Py_XDECREF(handler);
        PyErr_Clear();
    }
}

/* Addresses, for the question whether an object is the program's own: open addressing. */
struct set {
    PyObject **slot;
    size_t mask;
};

static size_t place_of(const struct set *set, PyObject *obj) {
    size_t at = ((uintptr_t)obj >> 4) * 0x9e3779b97f4a7c15u >> 20 & set->mask;
    while (set->slot[at] != NULL && set->slot[at] != obj)
        at = (at + 1) & set->mask;
    return at;
}

static bool set_of(PyObject *list, struct set *ret) {
    size_t size = 16;
    while (size < 2 * (size_t)PyList_Size(list))
        size *= 2;
    *ret = (struct set){ calloc(size, sizeof *ret->slot), size - 1 };
    for (Py_ssize_t i = 0; ret->slot != NULL && i < PyList_Size(list); i++) {
        PyObject *obj = PyList_GetItem(list, i);
        ret->slot[place_of(ret, obj)] = obj;
    }
    return ret->slot != NULL;
}

static void clear_dict(PyObject *dict, const struct set *only) {
    PyObject *keys = dict ? PyDict_Keys(dict) : NULL;
    for (int pass = 1; keys != NULL && pass <= 2; pass++) {
        for (Py_ssize_t i = 0; i < PyList_Size(keys); i++) {
            PyObject *key = PyList_GetItem(keys, i);
            PyObject *value = PyDict_GetItemWithError(dict, key);
            if (!PyUnicode_Check(key) || PyUnicode_GetLength(key) == 0 ||
                (only != NULL && (value == NULL || only->slot[place_of(only, value)] != value)))
                continue;
            bool single = PyUnicode_ReadChar(key, 0) == '_' &&
                          (PyUnicode_GetLength(key) < 2 || PyUnicode_ReadChar(key, 1) != '_');
            if ((pass == 1) != single || PyUnicode_CompareWithASCIIString(key, "__builtins__") == 0)
                continue;
            if (PyDict_SetItem(dict, key, Py_None) < 0)
                PyErr_Clear();
        }
    }
    Py_XDECREF(keys);
}

void zy_ending_clear_module(PyObject *module) {
    if (PyModule_Check(module))
        clear_dict(PyModule_GetDict(module), NULL);
}

/* By type, and types come in rows. */
static bool has_finalizer(PyTypeObject *type) {
    static struct {
        PyTypeObject *type;
        bool has;
    } known[TYPES];
    size_t at = ((uintptr_t)type >> 4) % TYPES;
    if (type == NULL)
        memset(known, 0, sizeof known);
    else if (known[at].type != type)
        known[at].type = type, known[at].has = PyType_GetSlot(type, Py_tp_finalize) != NULL;
    return type != NULL && known[at].has;
}

bool zy_ending_has_leftovers(PyObject *all) {
    has_finalizer(NULL); /* types may have gone since */
    for (Py_ssize_t i = 0; i < PyList_Size(all); i++) {
        PyObject *obj = PyList_GetItem(all, i);
        if (has_finalizer(Py_TYPE(obj)) && !zy_stdio_has(obj))
            return true;
    }
    return false;
}

/* finalize_restore_builtins_dict(). Imports stay refused. */
static void restore_builtins(void) {
    PyObject *module = zp_get(zp.modules, "builtins"), *key, *value;
    PyObject *dict = module ? PyModule_GetDict(module) : NULL;
    PyObject *had = dict ? PyDict_Copy(dict) : NULL;
    for (Py_ssize_t at = 0; had != NULL && PyDict_Next(had, &at, &key, &value);) {
        PyObject *before = PyDict_GetItemWithError(ending.builtins, key);
        if (before == value ||
            (PyUnicode_Check(key) && PyUnicode_CompareWithASCIIString(key, "__import__") == 0))
            continue;
        if ((before ? PyDict_SetItem(dict, key, before) : PyDict_DelItem(dict, key)) < 0)
            PyErr_Clear();
    }
    Py_XDECREF(had);
}

/* Newest module first, as finalize_modules_clear_weaklist() does. */
static void clear_inherited(const struct set *own) {
    PyObject *modules = PyDict_Values(zp.modules);
    for (Py_ssize_t i = modules ? PyList_Size(modules) : 0; i-- > 0;) {
        PyObject *module = PyList_GetItem(modules, i);
        PyObject *dict = PyModule_Check(module) ? PyModule_GetDict(module) : NULL;
        if (dict != NULL && dict != zp.sys_dict)
            clear_dict(dict, own);
    }
    Py_XDECREF(modules);
}

/* The values of the main thread's context variables, which python drops after all else; new list or
 * NULL. */
static PyObject *context_values(void) {
    PyObject *context = ending.copy_context ? ending.copy_context() : NULL;
    PyObject *values = context ? PyMapping_Values(context) : NULL;
    Py_XDECREF(context);
    PyErr_Clear();
    return values;
}

/* Notes those items of `list` that are among `all` and new: in `found`, and in `queue`. */
static void reach(PyObject *list, const struct set *all, struct set *found, PyObject *queue) {
    for (Py_ssize_t i = 0; list != NULL && i < PyList_Size(list); i++) {
        PyObject *obj = PyList_GetItem(list, i);
        size_t at = place_of(found, obj);
        if (all->slot[place_of(all, obj)] != obj || found->slot[at] == obj)
            continue;
        found->slot[at] = obj;
        if (PyList_Append(queue, obj) < 0)
            PyErr_Clear();
    }
}

/* The objects of `list` that something outside of it refers to, and what these refer to: the others
 * are garbage, in cycles. As the collector finds out: by taking the references from within off the
 * reference counts. */
static bool find_held(PyObject *list, struct set *ret) {
    struct set all = { 0 };
    PyObject *queue = PyList_New(0);
    bool made = queue != NULL && set_of(list, &all);
    Py_ssize_t *outside = made ? calloc(all.mask + 1, sizeof *outside) : NULL;
    *ret = (struct set){ outside ? calloc(all.mask + 1, sizeof *ret->slot) : NULL, all.mask };
    made = ret->slot != NULL;
    for (size_t at = 0; made && at <= all.mask; at++)
        if (all.slot[at] != NULL)
            outside[at] = Py_REFCNT(all.slot[at]) - 1; /* without the list's own */
    for (Py_ssize_t i = 0; made && i < PyList_Size(list); i++) {
        PyObject *referents = PyObject_CallFunctionObjArgs(ending.get_referents,
                                                           PyList_GetItem(list, i), NULL);
        for (Py_ssize_t k = 0; referents != NULL && k < PyList_Size(referents); k++) {
            size_t at = place_of(&all, PyList_GetItem(referents, k));
            if (all.slot[at] == PyList_GetItem(referents, k))
                outside[at]--;
        }
        Py_XDECREF(referents);
    }
    for (size_t at = 0; made && at <= all.mask; at++)
        if (all.slot[at] != NULL && outside[at] > 0) {
            ret->slot[place_of(ret, all.slot[at])] = all.slot[at];
            made = PyList_Append(queue, all.slot[at]) == 0;
        }
    for (Py_ssize_t i = 0; made && i < PyList_Size(queue); i++) {
        PyObject *referents = PyObject_CallFunctionObjArgs(ending.get_referents,
                                                           PyList_GetItem(queue, i), NULL);
        reach(referents, &all, ret, queue);
        Py_XDECREF(referents);
    }
    free(all.slot);
    free(outside);
    Py_XDECREF(queue);
    PyErr_Clear();
    return made;
}

/* The objects of `list` that go with sys, or with the context: `ret` refers to those. */
static bool find_later(PyObject *list, struct set *ret) {
    struct set all = { 0 };
    PyObject *queue = PyList_New(0), *sys_values = PyDict_Values(zp.sys_dict);
    PyObject *values = context_values();
    bool made = queue != NULL && set_of(list, &all);
    *ret = (struct set){ made ? calloc(all.mask + 1, sizeof *ret->slot) : NULL, all.mask };
    if (made && ret->slot != NULL) {
        reach(sys_values, &all, ret, queue);
        reach(values, &all, ret, queue);
    }
    for (Py_ssize_t i = 0; made && ret->slot != NULL && i < PyList_Size(queue); i++) {
        PyObject *referents = PyObject_CallFunctionObjArgs(ending.get_referents,
                                                           PyList_GetItem(queue, i), NULL);
        reach(referents, &all, ret, queue);
        Py_XDECREF(referents);
    }
    if (made)
        free(all.slot);
    Py_XDECREF(queue);
    Py_XDECREF(sys_values);
    Py_XDECREF(values);
    PyErr_Clear();
    return ret->slot != NULL;
}

/* What inherited containers and classes still hold: python would have destroyed those, so that
 * their contents are finalised; what goes with sys has its turn after that. Not while other threads
 * stand somewhere: what their frames hold is never finalised there either. */
static void finalize_held(bool last) {
    PyObject *thread = zp_get(zp.modules, "_thread");
    PyObject *count = thread ? PyObject_CallMethod(thread, "_count", NULL) : NULL;
    bool alone = count != NULL && PyLong_AsLong(count) == 0;
    PyObject *all = alone && ending.finalize != NULL ? zy_collector_own() : NULL;
    struct set later = { 0 }, held = { 0 };
    bool known = all != NULL && (last || (find_held(all, &held) && find_later(all, &later)));
    Py_XDECREF(count);
    has_finalizer(NULL);
    for (Py_ssize_t i = 0; known && i < PyList_Size(all); i++) {
        PyObject *obj = PyList_GetItem(all, i);
        if (has_finalizer(Py_TYPE(obj)) && !zy_stdio_has(obj) &&
            (last ||
             (held.slot[place_of(&held, obj)] == obj && later.slot[place_of(&later, obj)] != obj)))
            ending.finalize(obj);
    }
    free(later.slot);
    free(held.slot);
    Py_XDECREF(all);
    PyErr_Clear();
}

static void collect(void) {
    PyObject *n = PyObject_CallFunctionObjArgs(zp.gc_collect, NULL);
    Py_XDECREF(n);
    PyErr_Clear();
}

void zy_ending_leftovers(PyObject *all) {
    struct set own;
    PyObject *builtins = zp_get(zp.modules, "builtins");
    if (set_of(all, &own)) {
        Py_DECREF(all);
        restore_builtins();
        clear_inherited(&own);
        free(own.slot);
    } else {
        Py_DECREF(all);
    }
    /* Garbage waits, as there: the next collection comes when sys and builtins are empty, and what
     * a finaliser then complains about nobody hears. */
    finalize_held(false);
    clear_dict(zp.sys_dict, NULL);
    if (builtins != NULL)
        clear_dict(PyModule_GetDict(builtins), NULL);
    collect();
    finalize_held(true);
}
