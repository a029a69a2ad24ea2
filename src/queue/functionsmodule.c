/* Which functions a pool's first worker will have that cannot be imported by a name: those that the
 * running frames lead to. The whole heap is not looked through: it has a million objects. */
#include <Python.h>

#include "queue/module.h"

#include <stdlib.h>

#define OBJECTS_MAX (1 << 14) /* so many objects are looked into */
#define LOOKS_MAX (1 << 18)   /* and so many references: a large list is not read to its end */
#define SLOTS (OBJECTS_MAX * 4)

struct search {
    PyObject *function_type;
    PyObject **object; /* in the order of their distance; borrowed, as nothing is freed meanwhile */
    size_t count, looks;
    PyObject **slot; /* a set of the same */
};

static int meet(PyObject *object, void *arg) {
    struct search *s = arg;
    if (++s->looks > LOOKS_MAX || s->count == OBJECTS_MAX)
        return 1;
    PyTypeObject *type = Py_TYPE(object);
    if (!(PyType_GetFlags(type) & Py_TPFLAGS_HAVE_GC) || PyType_Check(object) ||
        PyModule_Check(object))
        return 0;
    size_t i = ((size_t)object >> 4) * 0x9e3779b97f4a7c15u >> 20 & (SLOTS - 1);
    for (; s->slot[i]; i = (i + 1) & (SLOTS - 1))
        if (s->slot[i] == object)
            return 0;
    s->slot[i] = s->object[s->count++] = object;
    return 0;
}

/* A function leads to what it has closed over, and not to all that its module has. Reading these
 * attributes makes no object that could start a collection. */
static void look_into_function(struct search *s, PyObject *function) {
    static const char *const names[] = { "__closure__", "__defaults__", "__kwdefaults__" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        PyObject *part = PyObject_GetAttrString(function, names[i]);
        if (part && Py_REFCNT(part) > 1)
            meet(part, s);
        PyErr_Clear();
        Py_XDECREF(part);
    }
}

static void look_around(struct search *s) {
    for (size_t i = 0; i < s->count; i++) {
        PyObject *object = s->object[i];
        if ((PyObject *)Py_TYPE(object) == s->function_type) {
            look_into_function(s, object);
            continue;
        }
        traverseproc traverse = (traverseproc)PyType_GetSlot(Py_TYPE(object), Py_tp_traverse);
        if (traverse)
            traverse(object, meet, s);
    }
}

/* Is this function's name one that cannot be imported, such as "f.<locals>.g"? 1, 0, or -1. */
static int is_local(PyObject *function) {
    PyObject *name = PyObject_GetAttrString(function, "__qualname__");
    if (!name)
        return -1;
    Py_ssize_t found = PyUnicode_FindChar(name, '<', 0, PyUnicode_GetLength(name), 1);
    Py_DECREF(name);
    return found == -2 ? -1 : found >= 0;
}

static int add_reference(PyObject *found, PyObject *function) {
    PyObject *id = PyLong_FromVoidPtr(function), *reference = PyWeakref_NewRef(function, NULL);
    int failed = !id || !reference || PyDict_SetItem(found, id, reference) < 0;
    Py_XDECREF(id);
    Py_XDECREF(reference);
    return failed ? -1 : 0;
}

/* Weak references to the functions among those found, which are kept alive until all are made. */
static PyObject *references(struct search *s) {
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++)
        if ((PyObject *)Py_TYPE(s->object[i]) == s->function_type)
            s->object[count++] = Py_NewRef(s->object[i]);
    PyObject *found = PyDict_New();
    for (size_t i = 0; i < count; i++) {
        int local = found ? is_local(s->object[i]) : 0;
        if (local < 0 || (local && add_reference(found, s->object[i]) < 0))
            Py_CLEAR(found);
        Py_DECREF(s->object[i]);
    }
    return found;
}

PyObject *local_functions(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    (void)self;
    if (count != 2 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "local_functions(list, type)");
        return NULL;
    }
    struct search s = { .function_type = args[1] };
    s.object = malloc(OBJECTS_MAX * sizeof *s.object);
    s.slot = calloc(SLOTS, sizeof *s.slot);
    PyObject *found = NULL;
    if (s.object && s.slot) {
        for (Py_ssize_t i = 0; i < PyList_Size(args[0]); i++)
            meet(PyList_GetItem(args[0], i), &s);
        look_around(&s);
        found = references(&s);
    } else {
        PyErr_NoMemory();
    }
    free(s.object);
    free(s.slot);
    return found;
}
