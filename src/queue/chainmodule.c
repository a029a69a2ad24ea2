/* warmfork._queue.Chain: the results of a map, one by one, of the lists that chunks give. In C
 * because this is what every item costs in the parent, after its unpickling. */
#include <Python.h>
#include <structmember.h>

#include "queue/module.h"

struct chain {
    PyObject_HEAD PyObject *source; /* iterator over lists; NULL: at its end */
    PyObject *values;               /* the present list, which is ours alone; NULL: none yet */
    Py_ssize_t at;
    PyObject *weak;
};

static PyObject *chain_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    PyObject *source;
    (void)named;
    if (!PyArg_ParseTuple(args, "O:Chain", &source))
        return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct chain *c = (struct chain *)alloc(type, 0);
    if (c && !(c->source = PyObject_GetIter(source)))
        Py_CLEAR(c);
    return (PyObject *)c;
}

/* The next list; false at the end, with or without an exception. */
static bool next_list(struct chain *c) {
    Py_CLEAR(c->values);
    c->at = 0;
    if (!c->source)
        return false;
    PyObject *source = Py_NewRef(c->source), *values = PyIter_Next(source);
    Py_DECREF(source); /* it may have been closed by what it called */
    if (!values) {
        Py_CLEAR(c->source);
        return false;
    }
    if (PyList_Check(values)) {
        c->values = values;
        return true;
    }
    Py_DECREF(values);
    PyErr_SetString(PyExc_TypeError, "Chain is for lists");
    return false;
}

static PyObject *chain_next(PyObject *self) {
    struct chain *c = (struct chain *)self;
    while (!c->values || c->at >= PyList_Size(c->values))
        if (!next_list(c))
            return NULL;
    /* The list lets go of it: what was taken and dropped is not to wait for the end of its chunk.
     */
    PyObject *item = Py_NewRef(PyList_GetItem(c->values, c->at));
    PyList_SetItem(c->values, c->at++, Py_NewRef(Py_None));
    return item;
}

static PyObject *chain_close(PyObject *self, PyObject *unused) {
    (void)unused;
    struct chain *c = (struct chain *)self;
    PyObject *source = c->source;
    c->source = NULL;
    Py_CLEAR(c->values);
    PyObject *done = source ? PyObject_CallMethod(source, "close", NULL) : Py_NewRef(Py_None);
    Py_XDECREF(source);
    return done;
}

static int chain_traverse(PyObject *self, visitproc visit, void *arg) {
    struct chain *c = (struct chain *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(c->source);
    Py_VISIT(c->values);
    return 0;
}

static int chain_clear(PyObject *self) {
    struct chain *c = (struct chain *)self;
    Py_CLEAR(c->source);
    Py_CLEAR(c->values);
    return 0;
}

static void chain_free(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (((struct chain *)self)->weak)
        PyObject_ClearWeakRefs(self);
    chain_clear(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef chain_methods[] = {
    { "close", chain_close, METH_NOARGS, "Ends it: nothing more is asked for." },
    { NULL, NULL, 0, NULL },
};

static PyMemberDef chain_members[] = {
    { "__weaklistoffset__", T_PYSSIZET, offsetof(struct chain, weak), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyType_Slot chain_slots[] = {
    { Py_tp_new, (void *)(uintptr_t)chain_new },
    { Py_tp_dealloc, (void *)(uintptr_t)chain_free },
    { Py_tp_traverse, (void *)(uintptr_t)chain_traverse },
    { Py_tp_clear, (void *)(uintptr_t)chain_clear },
    { Py_tp_iter, (void *)(uintptr_t)PyObject_SelfIter },
    { Py_tp_iternext, (void *)(uintptr_t)chain_next },
    { Py_tp_methods, chain_methods },
    { Py_tp_members, chain_members },
    { 0, NULL },
};

static PyType_Spec chain_spec = {
    .name = "warmfork._queue.Chain",
    .basicsize = sizeof(struct chain),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = chain_slots,
};

int chain_setup(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &chain_spec, NULL);
    int failed = !type || PyModule_AddType(module, (PyTypeObject *)type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}
