/* What a pool's parent takes from its workers: results, deaths, and what they are doing. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "queue/module.h"

#include <string.h>
#include <unistd.h>

#define DRAIN_MAX 4096 /* results at a time: the rest of the program wants the lock too */

struct module_state *pool_state(PyObject *self) { return PyType_GetModuleState(Py_TYPE(self)); }

void pool_forget_source(struct pool *p, unsigned k) {
    if (p->sources && p->sources[k]) {
        p->sources[k]->pool = NULL;
        source_drop(p->sources[k]);
        p->sources[k] = NULL;
    }
}

struct wf_pool *pool_usable(PyObject *self) {
    struct pool *p = (struct pool *)self;
    if (p->pool && p->owner == getpid() && !p->is_worker)
        return p->pool;
    PyErr_SetString(PyExc_RuntimeError,
                    p->pool ? "this pool belongs to another process" : "this pool is closed");
    return NULL;
}

static struct source *source_of(struct pool *p, unsigned k) {
    struct wf_err err;
    if (!p->sources[k]) {
        p->sources[k] = source_new(p->pool->worker[k].arena_fd, &err);
        if (!p->sources[k]) {
            raise_err(&err);
            return NULL;
        }
        p->sources[k]->pool = p->pool;
        p->sources[k]->k = k;
    }
    return p->sources[k];
}

/* The object of a result; on failure the exception itself, and *kind says so. */
static PyObject *value_of(PyObject *self, const struct wf_result *result, const uint8_t *data,
                          uint32_t *kind) {
    struct module_state *state = pool_state(self);
    PyObject *value = NULL;
    *kind = result->kind & ~(uint32_t)MSG_SEGMENTS;
    if (result->kind == MSG_NONE)
        Py_RETURN_NONE;
    if (result->kind & MSG_SEGMENTS) {
        struct source *source = source_of((struct pool *)self, result->spare);
        if (source)
            value = load_segments(state, source, data, result->size);
    } else {
        PyObject *bytes = PyBytes_FromStringAndSize((const char *)data, result->size);
        if (bytes && result->size > 0)
            value = PyObject_CallFunctionObjArgs(state->loads, bytes, NULL);
        else if (bytes)
            value = Py_NewRef(bytes);
        Py_XDECREF(bytes);
    }
    if (value)
        return value;
    PyObject *type, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    *kind = MSG_BAD;
    return value ? value : Py_NewRef(Py_None);
}

static void free_reported(struct pool *p, const uint8_t *data, size_t size) {
    uint64_t offset;
    for (size_t at = 0; at + sizeof offset <= size; at += sizeof offset) {
        memcpy(&offset, data + at, sizeof offset);
        wf_arena_free(&p->arena, offset);
    }
}

/* Takes one result of worker k into `list`: 1, 0 when there is none, -1. */
static int drain_one(PyObject *self, unsigned k, PyObject *list) {
    static uint8_t
        data[WF_QUEUE_PAYLOAD]; /* guarded by the interpreter's lock until value_of has copied it */
    struct pool *p = (struct pool *)self;
    struct wf_result result;
    uint32_t kind;
    if (!p->pool || !wf_pool_take(p->pool, k, &result, data))
        return 0;
    if (result.kind == MSG_FREED) {
        free_reported(p, data, result.size);
        return 1;
    }
    result.spare = k;
    PyObject *value = value_of(self, &result, data, &kind);
    PyObject *item = Py_BuildValue("KINIy#", (unsigned long long)result.task, kind, value, k,
                                   (const char *)&result, (Py_ssize_t)sizeof result);
    int failed = !item || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 1;
}

/* drain(list): adds them, so that none is lost when a signal's handler raises as this returns. */
PyObject *pool_drain(PyObject *self, PyObject *list) {
    struct wf_pool *pool = pool_usable(self);
    for (unsigned k = 0; pool && k < pool->max_workers; k++) {
        int got;
        for (int n = 0; (got = drain_one(self, k, list)) > 0 && n < DRAIN_MAX; n++)
            ;
        if (got < 0)
            return NULL;
    }
    return pool ? Py_NewRef(Py_None) : NULL;
}

PyObject *pool_deaths(PyObject *self, PyObject *unused) {
    (void)unused;
    struct wf_pool *pool = pool_usable(self);
    PyObject *list = pool ? PyList_New(0) : NULL;
    struct wf_death d;
    while (list && wf_pool_reap(pool, &d)) {
        pool_forget_source((struct pool *)self, d.k);
        wf_arena_free_held(&((struct pool *)self)->arena, (int)d.k);
        PyObject *item = Py_BuildValue("IiiiiKKlK", d.k, (int)d.pid, d.status, d.leaving, d.ready,
                                       (unsigned long long)d.task, (unsigned long long)d.started_ns,
                                       d.peak_kb, (unsigned long long)d.cpu_ns);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

/* workers(): of each (number, pid, task or 0, started, tasks done, busy nanoseconds). */
PyObject *pool_workers(PyObject *self, PyObject *unused) {
    (void)unused;
    struct wf_pool *pool = pool_usable(self);
    PyObject *list = pool ? PyList_New(0) : NULL;
    for (unsigned k = 0; list && k < pool->max_workers; k++) {
        const struct wf_worker *w = &pool->worker[k];
        const struct wf_control *c = &pool->shared->worker[k].control;
        if (w->pid == 0)
            continue;
        PyObject *item = Py_BuildValue(
            "IiKKKKi", k, (int)w->pid, (unsigned long long)(c->current >> 2),
            (unsigned long long)c->started_ns, (unsigned long long)w->done,
            (unsigned long long)w->busy_ns, c->phase != WF_PHASE_FORKED);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}
