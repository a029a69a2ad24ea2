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

static PyObject *limit_blas(PyObject *self, PyObject *arg) {
    (void)self;
    long threads = PyLong_AsLong(arg);
    if (threads == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromLong(wf_blas_limit(threads < 1 ? 1 : (int)threads));
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
    if (message_setup(state) < 0 || segment_setup(module, state) < 0 || chain_setup(module) < 0 ||
        pool_setup(module) < 0 || PyModule_AddIntConstant(module, "OUT_OF_BAND", OUT_OF_BAND) < 0 ||
        PyModule_AddIntConstant(module, "PAYLOAD", WF_QUEUE_PAYLOAD) < 0 ||
        PyModule_AddIntConstant(module, "WORKERS", WF_QUEUE_WORKERS) < 0)
        return -1;
    return 0;
}

static int clear(PyObject *module) {
    struct module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->segment_type);
    message_clear(state);
    return 0;
}

static int traverse(PyObject *module, visitproc visit, void *arg) {
    struct module_state *state = PyModule_GetState(module);
    Py_VISIT(state->segment_type);
    Py_VISIT(state->loads);
    Py_VISIT(state->pickler);
    Py_VISIT(state->namespace);
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
