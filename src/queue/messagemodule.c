/* From a Python object to a message: pickled in pieces, and put into an arena if it is large. */
#include <Python.h>

#include "queue/module.h"

#include <stdlib.h>
#include <string.h>

#define KEPT_MAX 4096 /* a pickler whose memo has grown is not used again */

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

/* write() of the file that a pickler writes to, bound to a list. What is not bytes is memory that
 * is ours only now. */
static PyObject *take(PyObject *pieces, PyObject *data) {
    PyObject *piece = PyBytes_CheckExact(data) ? Py_NewRef(data) : PyBytes_FromObject(data);
    int failed = !piece || PyList_Append(pieces, piece) < 0;
    Py_XDECREF(piece);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef keep_method = { "keep", keep, METH_O,
                                   "Whether to keep a buffer in the pickle." };
static PyMethodDef write_method = { "write", take, METH_O, "Takes a piece of a pickle." };

int message_setup(struct module_state *state) {
    PyObject *pickle = PyImport_ImportModule("pickle"), *types = PyImport_ImportModule("types");
    if (pickle && types) {
        state->loads = PyObject_GetAttrString(pickle, "loads");
        state->pickler = PyObject_GetAttrString(pickle, "Pickler");
        state->namespace = PyObject_GetAttrString(types, "SimpleNamespace");
    }
    Py_XDECREF(pickle);
    Py_XDECREF(types);
    return state->loads && state->pickler && state->namespace ? 0 : -1;
}

void message_clear(struct module_state *state) {
    Py_CLEAR(state->loads);
    Py_CLEAR(state->pickler);
    Py_CLEAR(state->namespace);
}

void writer_clear(struct writer *writer) {
    Py_CLEAR(writer->pieces);
    Py_CLEAR(writer->buffers);
    Py_CLEAR(writer->dump);
    Py_CLEAR(writer->clear_memo);
}

static void forget_pickler(struct writer *writer) {
    Py_CLEAR(writer->dump);
    Py_CLEAR(writer->clear_memo);
}

/* An object whose write() is `take`. */
static PyObject *file_of(struct module_state *state, PyObject *pieces) {
    PyObject *write = PyCFunction_NewEx(&write_method, pieces, NULL), *file = NULL;
    PyObject *named = write ? Py_BuildValue("{s:O}", "write", write) : NULL;
    PyObject *args = named ? PyTuple_New(0) : NULL;
    if (args)
        file = PyObject_Call(state->namespace, args, named);
    Py_XDECREF(args);
    Py_XDECREF(named);
    Py_XDECREF(write);
    return file;
}

static PyObject *pickler_new(struct module_state *state, struct writer *writer, PyObject *class) {
    PyObject *pickler = NULL, *file = file_of(state, writer->pieces);
    PyObject *keeper = PyCFunction_NewEx(&keep_method, writer->buffers, NULL);
    PyObject *args = file ? Py_BuildValue("Oi", file, 5) : NULL;
    PyObject *named = keeper ? Py_BuildValue("{s:O}", "buffer_callback", keeper) : NULL;
    if (args && named)
        pickler = PyObject_Call(class, args, named);
    Py_XDECREF(named);
    Py_XDECREF(args);
    Py_XDECREF(keeper);
    Py_XDECREF(file);
    return pickler;
}

static int writer_prepare(struct module_state *state, struct writer *writer) {
    if (!writer->pieces && !(writer->pieces = PyList_New(0)))
        return -1;
    if (!writer->buffers && !(writer->buffers = PyList_New(0)))
        return -1;
    if (writer->dump)
        return 0;
    PyObject *pickler = pickler_new(state, writer, state->pickler);
    if (!pickler)
        return -1;
    writer->dump = PyObject_GetAttrString(pickler, "dump");
    writer->clear_memo = PyObject_GetAttrString(pickler, "clear_memo");
    Py_DECREF(pickler);
    return writer->dump && writer->clear_memo ? 0 : -1;
}

static void empty(PyObject *list) {
    if (list && PyList_Size(list) > 0)
        PyList_SetSlice(list, 0, PyList_Size(list), NULL);
}

/* Fills writer->pieces and writer->buffers. */
static int dump(struct module_state *state, struct writer *writer, PyObject *object,
                PyObject *class) {
    PyObject *done = NULL;
    if (writer_prepare(state, writer) < 0)
        return -1;
    if (!class) {
        done = PyObject_CallFunctionObjArgs(writer->dump, object, NULL);
    } else {
        PyObject *pickler = pickler_new(state, writer, class);
        if (pickler)
            done = PyObject_CallMethod(pickler, "dump", "(O)", object);
        Py_XDECREF(pickler);
    }
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static size_t size_of(PyObject *pieces) {
    size_t size = 0;
    for (Py_ssize_t i = 0; i < PyList_Size(pieces); i++)
        size += (size_t)PyBytes_Size(PyList_GetItem(pieces, i));
    return size;
}

static PyObject *joined(PyObject *pieces, size_t size) {
    if (PyList_Size(pieces) == 1)
        return Py_NewRef(PyList_GetItem(pieces, 0));
    PyObject *whole = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    char *at = whole ? PyBytes_AsString(whole) : NULL;
    for (Py_ssize_t i = 0; whole && i < PyList_Size(pieces); i++) {
        PyObject *piece = PyList_GetItem(pieces, i);
        memcpy(at, PyBytes_AsString(piece), (size_t)PyBytes_Size(piece));
        at += PyBytes_Size(piece);
    }
    return whole;
}

PyObject *encode(struct module_state *state, struct writer *writer, struct wf_arena *arena,
                 PyObject *object, PyObject *pickler, size_t room, uint32_t *kind) {
    struct writer other = { 0 }, *w = writer->busy ? &other : writer;
    PyObject *message = NULL;
    w->busy = true;
    int failed = dump(state, w, object, pickler);
    size_t size = failed ? 0 : size_of(w->pieces);
    if (!failed && size <= room && PyList_Size(w->buffers) == 0) {
        message = joined(w->pieces, size);
    } else if (!failed) {
        message = spill(arena, w->pieces, w->buffers);
        *kind |= MSG_SEGMENTS;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback); /* what is let go of now may run code */
    empty(w->pieces);
    empty(w->buffers);
    if (failed || size > KEPT_MAX) {
        forget_pickler(w);
    } else {
        PyObject *done = PyObject_CallNoArgs(w->clear_memo);
        Py_XDECREF(done);
    }
    w->busy = false;
    writer_clear(&other);
    PyErr_Restore(type, value, traceback);
    return message;
}

void spill_undo(struct wf_arena *arena, const void *pairs, size_t size) {
    uint64_t pair[2];
    for (size_t at = 0; at + sizeof pair <= size; at += sizeof pair) {
        memcpy(pair, (const char *)pairs + at, sizeof pair);
        wf_arena_free(arena, pair[0]);
    }
}

/* Without the interpreter's lock: this may take a second. */
static int fill(int fd, uint64_t handle, uint64_t at, const void *data, size_t size) {
    struct wf_err err;
    int failed;
    Py_BEGIN_ALLOW_THREADS failed = wf_arena_fill(fd, handle, at, data, size, &err);
    Py_END_ALLOW_THREADS if (failed) raise_err(&err);
    return failed;
}

static int spill_pieces(struct wf_arena *arena, PyObject *pieces, uint64_t pair[2]) {
    struct wf_err err;
    uint64_t at = 0;
    pair[1] = size_of(pieces);
    if (wf_arena_reserve(arena, pair[1], &pair[0], &err) < 0) {
        raise_err(&err);
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_Size(pieces); i++) {
        PyObject *piece = PyList_GetItem(pieces, i);
        size_t size = (size_t)PyBytes_Size(piece);
        if (fill(arena->fd, pair[0], at, PyBytes_AsString(piece), size) < 0) {
            wf_arena_free(arena, pair[0]);
            return -1;
        }
        at += size;
    }
    return 0;
}

static int spill_buffer(struct wf_arena *arena, PyObject *object, uint64_t pair[2]) {
    Py_buffer view;
    struct wf_err err;
    if (PyObject_GetBuffer(object, &view, PyBUF_ANY_CONTIGUOUS) < 0)
        return -1;
    pair[1] = (uint64_t)view.len;
    int failed = wf_arena_reserve(arena, (size_t)view.len, &pair[0], &err);
    if (failed) {
        raise_err(&err);
    } else {
        failed = fill(arena->fd, pair[0], 0, view.buf, (size_t)view.len);
        if (failed)
            wf_arena_free(arena, pair[0]);
    }
    PyBuffer_Release(&view);
    return failed;
}

PyObject *spill(struct wf_arena *arena, PyObject *pieces, PyObject *buffers) {
    Py_ssize_t count = buffers ? PyList_Size(buffers) : 0, done = 0;
    if ((size_t)(count + 1) * 16 > WF_QUEUE_PAYLOAD / 2) {
        PyErr_Format(PyExc_OverflowError, "%zd large buffers in one message", count);
        return NULL;
    }
    uint64_t *pairs = malloc((size_t)(count + 1) * 16);
    if (!pairs)
        return PyErr_NoMemory();
    PyObject *message = NULL;
    if (spill_pieces(arena, pieces, pairs) == 0)
        for (done = 1; done <= count; done++)
            if (spill_buffer(arena, PyList_GetItem(buffers, done - 1), pairs + 2 * done) < 0)
                break;
    if (done > count)
        message = PyBytes_FromStringAndSize((const char *)pairs, (count + 1) * 16);
    if (!message)
        spill_undo(arena, pairs, (size_t)done * 16);
    free(pairs);
    return message;
}
