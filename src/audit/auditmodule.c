/* warmfork._audit: the probes, and what only C can see of the interpreter, as Python objects. Glue;
 * built for the stable ABI. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "audit/audit.h"
#include "audit/walk.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <unistd.h>

PyMODINIT_FUNC PyInit__audit(void);

/* As they are called in Python; in the order of enum wa_kind. */
static const char *const kinds[] = {
    "unseen",     "task",    "epoll",   "inotify",   "io-uring",    "timerfd",     "gpu",
    "privileged", "file",    "other",   "listening", "connected",   "unconnected", "file-lock",
    "shared",     "pending", "blocked", "itimer",    "posix-timer", "child",
};
_Static_assert(sizeof kinds / sizeof *kinds == WA_CHILD + 1, "a kind without a name");

static void add_fact(void *arg, const struct wa_fact *f) {
    PyObject *list = arg;
    PyObject *name = PyUnicode_DecodeFSDefault(f->name);
    PyObject *detail = PyUnicode_DecodeFSDefault(f->detail);
    PyObject *fact = name && detail
                         ? Py_BuildValue("slOOKK", kinds[f->kind], f->id, name, detail,
                                         (unsigned long long)f->from, (unsigned long long)f->size)
                         : NULL;
    if (fact != NULL)
        PyList_Append(list, fact); /* a failure leaves its exception, which `facts` returns */
    Py_XDECREF(fact);
    Py_XDECREF(name);
    Py_XDECREF(detail);
}

static PyObject *facts(PyObject *self, PyObject *args) {
    (void)self;
    unsigned probes = WA_PROBE_ALL;
    if (!PyArg_ParseTuple(args, "|I", &probes))
        return NULL;
    PyObject *list = PyList_New(0);
    if (list != NULL)
        wa_probe(probes, add_fact, list);
    if (PyErr_Occurred())
        Py_CLEAR(list);
    return list;
}

static void drop(void *arg, const struct wa_fact *fact) { *(long *)arg += fact->id; }

/* For measurements: what the probes cost without making Python objects of their facts. */
static PyObject *look(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    long sum = 0;
    wa_probe(WA_PROBE_ALL, drop, &sum);
    return PyLong_FromLong(sum);
}

static PyObject *task_of(PyObject *self, PyObject *ident) {
    (void)self;
    unsigned long thread = PyLong_AsUnsignedLong(ident);
    if (thread == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromLong(wa_task_of((uintptr_t)thread));
}

/* Like os.fork(), of which nobody is told: neither audit hooks nor who minds threads. */
static PyObject *quiet_fork(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    PyOS_BeforeFork();
    pid_t pid = fork();
    int code = errno;
    if (pid == 0)
        PyOS_AfterFork_Child();
    else
        PyOS_AfterFork_Parent();
    errno = code;
    return pid < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(pid);
}

/* While the disposition is the default one nobody is told of a child's end. */
static PyObject *mute_children(PyObject *self, PyObject *on) {
    (void)self;
    static struct sigaction before;
    static bool muted;
    const struct sigaction by_default = { .sa_handler = SIG_DFL };
    int mute = PyObject_IsTrue(on), failed = 0;
    if (mute < 0)
        return NULL;
    if (mute && !muted)
        failed = sigaction(SIGCHLD, NULL, &before);
    if (mute && !muted && failed == 0 && before.sa_handler != SIG_IGN) /* then nobody is told */
        failed = sigaction(SIGCHLD, &by_default, NULL);
    else if (!mute && muted && before.sa_handler != SIG_IGN)
        failed = sigaction(SIGCHLD, &before, NULL);
    if (failed < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    muted = mute;
    Py_RETURN_NONE;
}

static PyObject *stdio_pending(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return Py_BuildValue("nn", (Py_ssize_t)__fpending(stdout), (Py_ssize_t)__fpending(stderr));
}

static PyObject *c_environ(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    PyObject *list = PyList_New(0);
    for (char **e = environ; list != NULL && e != NULL && *e != NULL; e++) {
        PyObject *entry = PyBytes_FromString(*e);
        if (entry == NULL || PyList_Append(list, entry) < 0)
            Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    return list;
}

/* The words that an object's own structure consists of. */
static PyObject *words(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *object;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "On", &object, &size))
        return NULL;
    PyObject *list = PyList_New(0);
    const char *at = (const char *)object;
    for (Py_ssize_t i = 0; list != NULL && i + (Py_ssize_t)sizeof(long) <= size;
         i += (Py_ssize_t)sizeof(long)) {
        PyObject *word = PyLong_FromLong(*(const long *)(const void *)(at + i));
        if (word == NULL || PyList_Append(list, word) < 0)
            Py_CLEAR(list);
        Py_XDECREF(word);
    }
    return list;
}

static PyObject *walk(PyObject *self, PyObject *args) {
    (void)self;
    struct wa_wanted wanted;
    if (!PyArg_ParseTuple(args, "O!OnnO", &PyTuple_Type, &wanted.classes, &wanted.key,
                          &wanted.least, &wanted.most, &wanted.roots))
        return NULL;
    for (Py_ssize_t i = 0; i < PyTuple_Size(wanted.classes); i++)
        if (!PyType_Check(PyTuple_GetItem(wanted.classes, i)))
            return PyErr_Format(PyExc_TypeError, "walk: not a class"), NULL;
    if (wanted.roots == Py_None)
        wanted.roots = NULL;
    else if (!PyList_Check(wanted.roots))
        return PyErr_Format(PyExc_TypeError, "walk: roots are not a list"), NULL;
    return wa_walk(&wanted);
}

static PyMethodDef methods[] = {
    { "facts", facts, METH_VARARGS, "The kernel's facts: (kind, id, name, detail, from, size)." },
    { "look", look, METH_NOARGS, "Runs the probes and drops what they find (bench/audit.py)." },
    { "task_of", task_of, METH_O, "Thread id of the kernel for a threading.get_ident(), or 0." },
    { "fork", quiet_fork, METH_NOARGS, "Forks with all handlers, but without an audit event." },
    { "mute_children", mute_children, METH_O, "True: SIGCHLD has no handler; False: as before." },
    { "stdio_pending", stdio_pending, METH_NOARGS, "Bytes that C's stdout and stderr hold." },
    { "c_environ", c_environ, METH_NOARGS, "The environment as C has it." },
    { "words", words, METH_VARARGS, "The first bytes of an object's structure, as C longs." },
    { "walk", walk, METH_VARARGS, "Objects of certain types, and what refers to them." },
    { NULL, NULL, 0, NULL },
};

static PyModuleDef_Slot slots[] = { { 0, NULL } };

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "warmfork._audit",
    "Private: see warmfork.audit.",
    0,
    methods,
    slots,
    NULL,
    NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__audit(void) { return PyModuleDef_Init(&definition); }
