/* The extension module: messages between Python objects and shared memory. Built for the stable ABI
 * of 3.11, where the buffer protocol became a part of it; all that it uses is in 3.10 as well, with
 * the same layout. */
#include <Python.h>

#include "queue/module.h"

#include "base/io.h"
#include "queue/blas.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HIGH_FD 512

PyMODINIT_FUNC PyInit__queue(void);

/* Bumped by each fork of this process: what was mapped before is mapped in a child too, from then
 * on. */
static unsigned forks;
static void on_fork(void) { forks++; }

PyObject *raise_err(const struct wf_err *err) {
    PyErr_SetString(err->code ? PyExc_OSError : PyExc_RuntimeError, err->text);
    return NULL;
}

struct source *source_new(int fd, struct wf_err *err) {
    struct source *s = calloc(1, sizeof *s);
    if (!s) {
        wf_err_sys(err, "calloc", "source");
        return NULL;
    }
    *s =
        (struct source){ .refs = 1, .fd = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD), .reader = getpid() };
    if (s->fd < 0)
        s->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (s->fd < 0) {
        wf_err_sys(err, "fcntl F_DUPFD_CLOEXEC", "warmfork-arena");
        free(s);
        return NULL;
    }
    return s;
}

void source_drop(struct source *s) {
    if (!s || --s->refs > 0)
        return;
    wf_close(&s->fd);
    free(s->freed);
    free(s);
}

/* A range was unmapped: its memory goes back to who wrote it, or to the system. */
static void source_return(struct source *s, uint64_t offset, size_t size) {
    if (s->reader != getpid())
        return;
    if (s->pool) {
        wf_pool_return(s->pool, s->k, s->fd, offset, size);
    } else if (!s->reports) {
        wf_arena_drop(s->fd, offset, size);
    } else if (s->freed_count < s->freed_room) {
        s->freed[s->freed_count++] = offset;
    } else {
        size_t room = s->freed_room ? s->freed_room * 2 : 64;
        uint64_t *grown = realloc(s->freed, room * sizeof *grown);
        if (!grown)
            return; /* the parent frees it when this worker is gone */
        s->freed = grown;
        s->freed_room = room;
        s->freed[s->freed_count++] = offset;
    }
}

/* A buffer in shared memory, unmapped and given back when the last view of it is dropped. */
struct segment {
    PyObject_HEAD void *data;
    size_t size;
    uint64_t offset;
    unsigned forks;
    struct source *source;
};

static int segment_get(PyObject *self, Py_buffer *view, int flags) {
    struct segment *s = (struct segment *)self;
    return PyBuffer_FillInfo(view, self, s->data, (Py_ssize_t)s->size, 0, flags);
}

static void segment_free(PyObject *self) {
    struct segment *s = (struct segment *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (s->data)
        wf_arena_unmap(s->data, s->size);
    /* A child that was forked meanwhile may still look at it: such a range is never used again. */
    if (s->data && s->forks == forks)
        source_return(s->source, s->offset, s->size);
    source_drop(s->source);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyType_Slot segment_slots[] = {
    { Py_tp_dealloc, (void *)(uintptr_t)segment_free },
    { Py_bf_getbuffer, (void *)(uintptr_t)segment_get },
    { 0, NULL },
};

static PyType_Spec segment_spec = {
    .name = "warmfork._queue.Segment",
    .basicsize = sizeof(struct segment),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = segment_slots,
};

int segment_setup(PyObject *module, struct module_state *state) {
    state->segment_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &segment_spec, NULL);
    return state->segment_type ? 0 : -1;
}

static PyObject *segment_new(struct module_state *state, struct source *source, uint64_t offset,
                             uint64_t size) {
    struct wf_err err;
    allocfunc alloc = (allocfunc)PyType_GetSlot(state->segment_type, Py_tp_alloc);
    struct segment *s = (struct segment *)alloc(state->segment_type, 0);
    if (!s)
        return NULL;
    s->size = size;
    s->offset = offset;
    s->forks = forks;
    s->source = source;
    source->refs++;
    s->data = wf_arena_map(source->fd, offset, size, &err);
    if (s->data)
        return (PyObject *)s;
    Py_DECREF(s);
    return raise_err(&err);
}

static PyObject *loads_with(struct module_state *state, PyObject *stream, PyObject *buffers) {
    PyObject *args = PyTuple_Pack(1, stream), *value = NULL;
    PyObject *named = args ? Py_BuildValue("{s:O}", "buffers", buffers) : NULL;
    if (named)
        value = PyObject_Call(state->loads, args, named);
    Py_XDECREF(named);
    Py_XDECREF(args);
    return value;
}

PyObject *load_segments(struct module_state *state, struct source *source, const void *pairs,
                        size_t size) {
    uint64_t pair[2];
    if (size == 0 || size % sizeof pair) {
        PyErr_Format(PyExc_RuntimeError, "a message of segments with %zu bytes", size);
        return NULL;
    }
    PyObject *stream = NULL, *value = NULL, *buffers = PyList_New(0);
    for (size_t at = 0; buffers && at < size; at += sizeof pair) {
        memcpy(pair, (const char *)pairs + at, sizeof pair);
        PyObject *segment = segment_new(state, source, pair[0], pair[1]);
        if (segment && at == 0)
            stream = Py_NewRef(segment);
        else if (!segment || PyList_Append(buffers, segment) < 0)
            Py_CLEAR(buffers);
        Py_XDECREF(segment);
    }
    if (buffers && stream)
        value = loads_with(state, stream, buffers);
    Py_XDECREF(stream);
    Py_XDECREF(buffers);
    return value;
}

/* pickle's buffer_callback, bound to a list: true keeps the buffer in the pickle. */
static PyObject *keep(PyObject *buffers, PyObject *buffer) {
    Py_buffer view;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_ANY_CONTIGUOUS) < 0) {
        PyErr_Clear();
        Py_RETURN_TRUE; /* the pickle knows how */
    }
    Py_ssize_t size = view.len;
    PyBuffer_Release(&view);
    if (size < OUT_OF_BAND)
        Py_RETURN_TRUE;
    if (PyList_Append(buffers, buffer) < 0)
        return NULL;
    Py_RETURN_FALSE;
}

static PyMethodDef keep_method = { "keep", keep, METH_O,
                                   "Whether to keep a buffer in the pickle." };

PyObject *keep_new(PyObject *buffers) { return PyCFunction_NewEx(&keep_method, buffers, NULL); }

PyObject *dump_object(struct module_state *state, PyObject *object, PyObject *keep_function) {
    PyObject *data = NULL, *args = Py_BuildValue("Oi", object, 5);
    PyObject *named = args ? Py_BuildValue("{s:O}", "buffer_callback", keep_function) : NULL;
    if (named)
        data = PyObject_Call(state->dumps, args, named);
    Py_XDECREF(named);
    Py_XDECREF(args);
    if (data && !PyBytes_Check(data)) {
        Py_CLEAR(data);
        PyErr_SetString(PyExc_TypeError, "dumps() did not return bytes");
    }
    return data;
}

void spill_undo(struct wf_arena *arena, const void *pairs, size_t size) {
    uint64_t pair[2];
    for (size_t at = 0; at + sizeof pair <= size; at += sizeof pair) {
        memcpy(pair, (const char *)pairs + at, sizeof pair);
        wf_arena_free(arena, pair[0]);
    }
}

static int spill_one(struct wf_arena *arena, PyObject *object, uint64_t pair[2]) {
    Py_buffer view;
    struct wf_err err;
    if (PyObject_GetBuffer(object, &view, PyBUF_ANY_CONTIGUOUS) < 0)
        return -1;
    int failed;
    pair[1] = (uint64_t)view.len;
    Py_BEGIN_ALLOW_THREADS failed = wf_arena_write(arena, view.buf, (size_t)view.len, &pair[0],
                                                   &err);
    Py_END_ALLOW_THREADS PyBuffer_Release(&view);
    if (failed)
        raise_err(&err);
    return failed;
}

PyObject *spill(struct wf_arena *arena, PyObject *data, PyObject *buffers) {
    Py_ssize_t count = PyList_Size(buffers);
    if ((size_t)(count + 1) * 16 > WF_QUEUE_PAYLOAD / 2) {
        PyErr_Format(PyExc_OverflowError, "%zd large buffers in one message", count);
        return NULL;
    }
    uint64_t *pairs = malloc((size_t)(count + 1) * 16);
    if (!pairs)
        return PyErr_NoMemory();
    PyObject *message = NULL;
    Py_ssize_t done = 0;
    while (done <= count &&
           spill_one(arena, done ? PyList_GetItem(buffers, done - 1) : data, pairs + 2 * done) == 0)
        done++;
    if (done > count)
        message = PyBytes_FromStringAndSize((const char *)pairs, (count + 1) * 16);
    if (!message)
        spill_undo(arena, pairs, (size_t)done * 16);
    free(pairs);
    return message;
}

static PyObject *limit_blas(PyObject *self, PyObject *arg) {
    (void)self;
    long threads = PyLong_AsLong(arg);
    if (threads == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromLong(wf_blas_limit(threads < 1 ? 1 : (int)threads));
}

static PyObject *keeper(PyObject *self, PyObject *list) {
    (void)self;
    if (PyList_Check(list))
        return keep_new(list);
    PyErr_SetString(PyExc_TypeError, "keeper(list)");
    return NULL;
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

/* local_functions(objects, type): a heap has a million objects, so that this loop is in C. */
static PyObject *local_functions(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    (void)self;
    if (count != 2 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "local_functions(list, type)");
        return NULL;
    }
    PyObject *found = PyDict_New();
    Py_ssize_t size = PyList_Size(args[0]);
    for (Py_ssize_t i = 0; found && i < size; i++) {
        PyObject *object = PyList_GetItem(args[0], i);
        if ((PyObject *)Py_TYPE(object) != args[1])
            continue;
        int local = is_local(object);
        if (local < 0 || (local && add_reference(found, object) < 0))
            Py_CLEAR(found);
    }
    return found;
}

static PyObject *tie(PyObject *self, PyObject *arg) {
    struct wf_err err;
    long parent = PyLong_AsLong(arg);
    (void)self;
    if (parent == -1 && PyErr_Occurred())
        return NULL;
    return PyBool_FromLong(wf_member_tie((pid_t)parent, &err) == 0);
}

static PyMethodDef methods[] = {
    { "tie", tie, METH_O, "Has this process killed when its parent ends; False: it has." },
    { "local_functions", (PyCFunction)(void (*)(void))local_functions, METH_FASTCALL,
      "Weak references to functions without an importable name, by id." },
    { "keeper", keeper, METH_O,
      "A buffer_callback for pickle that puts large buffers into the list." },
    { "limit_blas", limit_blas, METH_O,
      "Limits the threads of loaded BLAS and OpenMP libraries; returns how many." },
    { NULL, NULL, 0, NULL },
};

static int start(PyObject *module) {
    struct module_state *state = PyModule_GetState(module);
    static bool hooked;
    if (!hooked)
        pthread_atfork(on_fork, NULL, NULL);
    hooked = true;
    PyObject *pickle = PyImport_ImportModule("pickle");
    if (!pickle)
        return -1;
    state->loads = PyObject_GetAttrString(pickle, "loads");
    state->dumps = PyObject_GetAttrString(pickle, "dumps");
    Py_DECREF(pickle);
    if (!state->loads || !state->dumps || segment_setup(module, state) < 0 ||
        pool_setup(module) < 0 || PyModule_AddIntConstant(module, "OUT_OF_BAND", OUT_OF_BAND) < 0 ||
        PyModule_AddIntConstant(module, "PAYLOAD", WF_QUEUE_PAYLOAD) < 0 ||
        PyModule_AddIntConstant(module, "WORKERS", WF_QUEUE_WORKERS) < 0)
        return -1;
    return 0;
}

static int clear(PyObject *module) {
    struct module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->segment_type);
    Py_CLEAR(state->loads);
    Py_CLEAR(state->dumps);
    return 0;
}

static int traverse(PyObject *module, visitproc visit, void *arg) {
    struct module_state *state = PyModule_GetState(module);
    Py_VISIT(state->segment_type);
    Py_VISIT(state->loads);
    Py_VISIT(state->dumps);
    return 0;
}

static PyModuleDef_Slot slots[] = { { Py_mod_exec, (void *)(uintptr_t)start }, { 0, NULL } };

struct PyModuleDef queue_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "warmfork._queue",
    .m_doc = "Private: the pool's core. See docs/pool.md.",
    .m_size = sizeof(struct module_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__queue(void) { return PyModuleDef_Init(&queue_module); }
