/* The worker's loop: from the entry in the queue to the result in the ring, one task after another.
 */
#include <Python.h>

#include "queue/module.h"

#include "queue/futex.h"

#include <string.h>

#define MEMORY_LOOK_NS 1000000 /* a worker's size is looked at after tasks that took as long */

struct serving {
    struct module_state *state;
    struct wf_member *member;
    struct wf_arena *arena;
    struct source *parent;
    PyObject *server, *known; /* functions by their bytes */
    PyObject *resolve, *call, *error, *pickler, *too_big;
    struct writer *writer;
    long long tasks_left; /* 0: no limit */
};

/* What was taken from the queue, copied. */
struct job {
    uint64_t task;
    uint32_t kind;
    PyObject *function, *body;
};

static void job_done(struct job *job) {
    Py_CLEAR(job->function);
    Py_CLEAR(job->body);
}

/* Sends bytes, without the interpreter's lock when that takes long. -1: a signal's handler raised.
 */
static int send_bytes(struct serving *s, struct wf_result *result, const void *data, size_t size) {
    result->size = (uint32_t)size;
    for (;;) {
        int again;
        Py_BEGIN_ALLOW_THREADS again = wf_member_send(s->member, result, data);
        Py_END_ALLOW_THREADS if (!again) return 0;
        if (PyErr_CheckSignals() < 0)
            return -1;
    }
}

static int report_freed(struct serving *s) {
    struct source *p = s->parent;
    while (p->freed_count > 0) {
        struct wf_result note = { .kind = MSG_FREED };
        size_t count = p->freed_count < 1024 ? p->freed_count : 1024;
        if (send_bytes(s, &note, p->freed + p->freed_count - count, count * sizeof *p->freed) < 0)
            return -1;
        p->freed_count -= count;
    }
    return 0;
}

/* The exception that is set, as the bytes that the parent gets. Never fails for good: a last resort
 * is text. */
static PyObject *error_bytes(struct serving *s) {
    PyObject *type, *value, *traceback, *data = NULL;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value && traceback)
        PyException_SetTraceback(value, traceback);
    if (value)
        data = PyObject_CallFunctionObjArgs(s->error, value, NULL);
    if (data && !PyBytes_Check(data))
        Py_CLEAR(data);
    PyErr_Clear();
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return data;
}

static void free_returned(struct serving *s) {
    uint64_t offset;
    while (wf_member_returned(s->member, &offset))
        wf_arena_free(s->arena, offset);
}

/* Pickling by value is for what pickle cannot; its own exception is the better one if that fails
 * too. */
static PyObject *encode_by_value(struct serving *s, PyObject *value, uint32_t *kind) {
    PyObject *type, *error, *traceback, *data = NULL;
    PyErr_Fetch(&type, &error, &traceback);
    PyObject *pickler = PyObject_CallFunctionObjArgs(s->pickler, type, NULL);
    if (pickler && pickler != Py_None)
        data = encode(s->state, s->writer, s->arena, value, pickler, WF_QUEUE_PAYLOAD, kind);
    Py_XDECREF(pickler);
    if (!data) {
        PyErr_Clear();
        PyErr_Restore(type, error, traceback);
        return NULL;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return data;
}

static PyObject *encode_value(struct serving *s, PyObject *value, uint32_t *kind) {
    *kind = MSG_VALUE;
    free_returned(s);
    PyObject *data = encode(s->state, s->writer, s->arena, value, NULL, WF_QUEUE_PAYLOAD, kind);
    return data ? data : encode_by_value(s, value, kind);
}

/* `data` as it is, or put into the arena because it is large. Takes over `data`. */
static PyObject *fit(struct serving *s, PyObject *data, uint32_t *kind) {
    if (PyBytes_Size(data) <= WF_QUEUE_PAYLOAD)
        return data;
    PyObject *pieces = PyList_New(0), *pairs = NULL;
    if (pieces && PyList_Append(pieces, data) == 0)
        pairs = spill(s->arena, pieces, NULL);
    Py_XDECREF(pieces);
    Py_DECREF(data);
    *kind |= MSG_SEGMENTS;
    return pairs;
}

/* A result that is an error: of the task, or of pickling what it returned. */
static PyObject *encode_error(struct serving *s, uint32_t *kind) {
    for (int attempt = 0; attempt < 2; attempt++) {
        *kind = MSG_ERROR;
        PyObject *data = error_bytes(s);
        if (data)
            data = fit(s, data, kind);
        if (data)
            return data;
    }
    PyErr_Clear();
    *kind = MSG_ERROR;
    return PyBytes_FromStringAndSize(NULL, 0);
}

/* Hands over the value, or the exception that is set where it is NULL. Takes over `value`. */
static int hand_over(struct serving *s, uint64_t task, PyObject *value) {
    struct wf_result result = { .task = task, .kind = MSG_NONE };
    PyObject *data = NULL;
    if (value != Py_None) {
        if (value)
            data = encode_value(s, value, &result.kind);
        if (!data)
            data = encode_error(s, &result.kind);
    }
    Py_XDECREF(value); /* the task's own memory, before the parent sees that it is over */
    wf_member_finished(s->member, &result);
    int failed = report_freed(s) < 0 || send_bytes(s, &result, data ? PyBytes_AsString(data) : "",
                                                   data ? (size_t)PyBytes_Size(data) : 0) < 0;
    Py_XDECREF(data);
    return failed ? -1 : 0;
}

static int copy_job(struct job *job, const struct wf_entry *entry, const uint8_t *data) {
    uint32_t size = 0;
    *job = (struct job){ .task = entry->task, .kind = entry->kind };
    if (entry->size >= sizeof size)
        memcpy(&size, data, sizeof size);
    if (entry->size < sizeof size || size > entry->size - sizeof size) {
        PyErr_SetString(PyExc_RuntimeError, "the queue of tasks has been written over");
        return -1;
    }
    const char *at = (const char *)data + sizeof size;
    job->function = PyBytes_FromStringAndSize(at, (Py_ssize_t)size);
    job->body = PyBytes_FromStringAndSize(at + size,
                                          (Py_ssize_t)(entry->size - sizeof size - size));
    return job->function && job->body ? 0 : -1;
}

static PyObject *function_of(struct serving *s, struct job *job) {
    PyObject *function = PyDict_GetItemWithError(s->known, job->function);
    if (function)
        return Py_NewRef(function);
    return PyErr_Occurred() ? NULL : PyObject_CallFunctionObjArgs(s->resolve, job->function, NULL);
}

static PyObject *arguments_of(struct serving *s, struct job *job) {
    if (!(job->kind & MSG_SEGMENTS))
        return PyObject_CallFunctionObjArgs(s->state->loads, job->body, NULL);
    return load_segments(s->state, s->parent, PyBytes_AsString(job->body),
                         (size_t)PyBytes_Size(job->body));
}

static PyObject *run(struct serving *s, struct job *job) {
    PyObject *value = NULL, *args = NULL, *function = function_of(s, job);
    if (function)
        args = arguments_of(s, job);
    uint32_t kind = job->kind & ~(uint32_t)MSG_SEGMENTS;
    job_done(job);
    if (args && kind == MSG_CALL && PyTuple_Check(args)) {
        value = PyObject_Call(function, args, NULL);
    } else if (args) {
        PyObject *number = PyLong_FromUnsignedLong(kind);
        if (number)
            value = PyObject_CallFunctionObjArgs(s->call, number, function, args, NULL);
        Py_XDECREF(number);
    }
    Py_XDECREF(args);
    Py_XDECREF(function);
    return value;
}

/* Does this worker lack a function that cannot be sent? One that is forked now has it. 1, 0, -1. */
static int is_outdated(struct serving *s) {
    PyObject *outdated = PyObject_GetAttrString(s->server, "outdated");
    int is = outdated ? PyObject_IsTrue(outdated) : -1;
    Py_XDECREF(outdated);
    return is;
}

/* After a task: has this worker run long enough, or grown too large? 1, 0, or -1. */
static int is_over(struct serving *s, uint64_t started_ns) {
    if (s->tasks_left > 0 && --s->tasks_left == 0)
        return 1;
    if (s->too_big == Py_None || wf_now_ns() - started_ns < MEMORY_LOOK_NS)
        return 0;
    PyObject *big = PyObject_CallNoArgs(s->too_big);
    int over = big ? PyObject_IsTrue(big) : -1;
    Py_XDECREF(big);
    return over;
}

/* 1: a task was run; 0: there was none; -1: an exception that is the worker's own; 2: the worker's
 * life is over. */
static int run_next(struct serving *s) {
    struct job job;
    const uint8_t *data;
    const struct wf_entry *entry = wf_member_claim(s->member, &data);
    if (!entry)
        return 0;
    uint64_t task = entry->task,
             started = s->member->shared->worker[s->member->k].control.started_ns;
    int bad = copy_job(&job, entry, data);
    wf_member_taken(s->member, entry);
    PyObject *value = bad ? NULL : run(s, &job);
    job_done(&job);
    bool failed = !value;
    if (hand_over(s, task, value) < 0)
        return -1;
    int over = failed ? is_outdated(s) : 0;
    if (over == 0)
        over = is_over(s, started);
    return over > 0 ? 2 : over < 0 ? -1 : 1;
}

static int sleep_or_leave(struct serving *s) {
    int got;
    if (report_freed(s) < 0)
        return -1;
    Py_BEGIN_ALLOW_THREADS got = wf_member_sleep(s->member);
    Py_END_ALLOW_THREADS if (got < 0) return 2;
    return PyErr_CheckSignals() < 0 ? -1 : 1;
}

static int prepare(struct serving *s) {
    PyObject *limit = PyObject_GetAttrString(s->server, "max_tasks");
    s->tasks_left = limit ? PyLong_AsLongLong(limit) : 0;
    Py_XDECREF(limit);
    if (PyErr_Occurred())
        return -1;
    s->known = PyObject_GetAttrString(s->server, "known");
    s->resolve = PyObject_GetAttrString(s->server, "resolve");
    s->call = PyObject_GetAttrString(s->server, "call");
    s->error = PyObject_GetAttrString(s->server, "error");
    s->pickler = PyObject_GetAttrString(s->server, "pickler");
    s->too_big = PyObject_GetAttrString(s->server, "too_big");
    return s->known && s->resolve && s->call && s->error && s->pickler && s->too_big ? 0 : -1;
}

PyObject *serve(struct module_state *state, struct pool *pool, PyObject *server) {
    struct wf_member *member = &pool->member;
    struct serving s = { .state = state,
                         .member = member,
                         .arena = &pool->arena,
                         .parent = pool->parent,
                         .writer = &pool->writer,
                         .server = server };
    struct wf_control *c = &member->shared->worker[member->k].control;
    int got = prepare(&s);
    if (got == 0)
        atomic_store_explicit(&c->phase, WF_PHASE_READY, memory_order_seq_cst);
    while (got >= 0 && got != 2) {
        got = run_next(&s);
        if (got == 0)
            got = sleep_or_leave(&s);
    }
    if (got == 2)
        atomic_store_explicit(&c->phase, WF_PHASE_LEAVING, memory_order_seq_cst);
    Py_XDECREF(s.known);
    Py_XDECREF(s.resolve);
    Py_XDECREF(s.call);
    Py_XDECREF(s.error);
    Py_XDECREF(s.pickler);
    Py_XDECREF(s.too_big);
    if (got < 0)
        return NULL;
    Py_RETURN_NONE;
}
