/* gc as programs see it. What was inherited is frozen, so that a collection neither walks nor
 * writes to it; but python's gc would show those objects. The functions that could tell thaw them
 * first, and from then on the program's collector works on everything, as python's does.
 *
 * They are replaced in the method table of gc, which every module object of that name and every
 * `from gc import …` shares: a program that imports gc may get a new module. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include <string.h>

/* The start of PyCFunctionObject, the same in all versions; checked before it is believed. */
struct builtin_function {
    PyObject head;
    PyMethodDef *method;
};

enum told { GET_OBJECTS, GET_REFERRERS, GET_FREEZE_COUNT, FREEZE, UNFREEZE, TOLD };

static const char *const names[TOLD] = { "get_objects", "get_referrers", "get_freeze_count",
                                         "freeze", "unfreeze" };
static PyMethodDef original[TOLD];
static PyObject *get_objects, *freeze, *unfreeze; /* the original ones */
static long frozen_at_start;                      /* 3.12 freezes what it has made itself */
static bool thawed, changed;                      /* the program has frozen or thawed, too */

static bool thaw(enum told asked) {
    PyObject *done = thawed ? NULL : PyObject_CallFunctionObjArgs(unfreeze, NULL);
    Py_XDECREF(done);
    thawed = thawed || done != NULL;
    changed = changed || asked == FREEZE || asked == UNFREEZE;
    return thawed;
}

/* One function for each way in which C functions take their arguments. */
#define TELL(which, number)                                                                        \
    static PyObject *which##_plain(PyObject *self, PyObject *args) {                               \
        return thaw(number) ? original[number].ml_meth(self, args) : NULL;                         \
    }                                                                                              \
    static PyObject *which##_fast(PyObject *self, PyObject *const *args, Py_ssize_t count) {       \
        return thaw(number)                                                                        \
                   ? ((FastFunction)(void (*)(void))original[number].ml_meth)(self, args, count)   \
                   : NULL;                                                                         \
    }                                                                                              \
    static PyObject *which##_keywords(PyObject *self, PyObject *const *args, Py_ssize_t count,     \
                                      PyObject *keywords) {                                        \
        return thaw(number) ? ((KeywordFunction)(void (*)(void))original[number].ml_meth)(         \
                                  self, args, count, keywords)                                     \
                            : NULL;                                                                \
    }

typedef PyObject *(*FastFunction)(PyObject *, PyObject *const *, Py_ssize_t);
typedef PyObject *(*KeywordFunction)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);

TELL(objects, GET_OBJECTS)
TELL(referrers, GET_REFERRERS)
TELL(freeze_count, GET_FREEZE_COUNT)
TELL(freeze, FREEZE)
TELL(unfreeze, UNFREEZE)

static PyObject *count_frozen(PyObject *self, PyObject *unused) {
    PyObject *count = freeze_count_plain(self, unused);
    if (count == NULL || changed)
        return count;
    Py_DECREF(count);
    return PyLong_FromLong(frozen_at_start);
}

static const struct {
    PyCFunction plain;
    FastFunction fast;
    KeywordFunction keywords;
} telling[TOLD] = { { objects_plain, objects_fast, objects_keywords },
                    { referrers_plain, referrers_fast, referrers_keywords },
                    { count_frozen, freeze_count_fast, freeze_count_keywords },
                    { freeze_plain, freeze_fast, freeze_keywords },
                    { unfreeze_plain, unfreeze_fast, unfreeze_keywords } };

static PyMethodDef *method_of(PyObject *function, const char *name) {
    if (function == NULL || !PyCFunction_Check(function))
        return NULL;
    PyMethodDef *method = ((struct builtin_function *)function)->method;
    return method->ml_meth == PyCFunction_GetFunction(function) &&
                   method->ml_flags == PyCFunction_GetFlags(function) &&
                   strcmp(method->ml_name, name) == 0
               ? method
               : NULL;
}

static PyCFunction replacement(enum told which, int flags) {
    switch (flags & (METH_VARARGS | METH_KEYWORDS | METH_NOARGS | METH_O | METH_FASTCALL)) {
    case METH_VARARGS:
    case METH_NOARGS:
        return telling[which].plain;
    case METH_FASTCALL:
        return (PyCFunction)(void (*)(void))telling[which].fast;
    case METH_FASTCALL | METH_KEYWORDS:
        return (PyCFunction)(void (*)(void))telling[which].keywords;
    default:
        return NULL;
    }
}

int zy_collector_init(PyObject *gc) {
    PyObject *count = PyObject_CallMethod(gc, names[GET_FREEZE_COUNT], NULL);
    frozen_at_start = count ? PyLong_AsLong(count) : 0;
    Py_XDECREF(count);
    for (enum told i = 0; i < TOLD; i++) {
        PyObject *function = PyObject_GetAttrString(gc, names[i]);
        PyMethodDef *method = method_of(function, names[i]);
        PyCFunction instead = method ? replacement(i, method->ml_flags) : NULL;
        Py_XDECREF(function);
        if (instead == NULL) {
            PyErr_Format(PyExc_RuntimeError, "gc.%s is not as expected", names[i]);
            return -1;
        }
        original[i] = *method;
        method->ml_meth = instead;
    }
    get_objects = PyCFunction_NewEx(&original[GET_OBJECTS], NULL, NULL);
    freeze = PyCFunction_NewEx(&original[FREEZE], NULL, NULL);
    unfreeze = PyCFunction_NewEx(&original[UNFREEZE], NULL, NULL);
    return get_objects == NULL || freeze == NULL || unfreeze == NULL ? -1 : 0;
}

PyObject *zy_collector_own(void) { return PyObject_CallFunctionObjArgs(get_objects, NULL); }

bool zy_collector_thawed(void) { return thawed; }

void zy_collector_freeze(void) {
    PyObject *done = PyObject_CallFunctionObjArgs(freeze, NULL);
    Py_XDECREF(done);
    PyErr_Clear();
}
