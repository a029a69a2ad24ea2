/* warmfork._queue.Pool: the parent's end, and after fork() in a child the worker's. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "queue/module.h"

#include "base/io.h"
#include "queue/futex.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void release(struct pool *p) {
    if (!p->pool)
        return;
    for (unsigned k = 0; k < p->pool->max_workers; k++)
        pool_forget_source(p, k);
    free(p->sources);
    p->sources = NULL;
    source_drop(p->parent);
    p->parent = NULL;
    writer_clear(&p->writer);
    wf_close(&p->arena.fd);
    wf_arena_done(&p->arena);
    if (p->owner == getpid()) {
        Py_BEGIN_ALLOW_THREADS wf_pool_free(p->pool);
        Py_END_ALLOW_THREADS
    }
    p->pool = NULL;
}

static PyObject *pool_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = { "max_workers", "spins", NULL };
    struct wf_err err;
    unsigned max_workers;
    int spins = 0;
    if (!PyArg_ParseTupleAndKeywords(args, named, "I|p:Pool", names, &max_workers, &spins))
        return NULL;
    if (max_workers == 0 || max_workers > WF_QUEUE_WORKERS)
        return PyErr_Format(PyExc_ValueError, "max_workers must be from 1 to %d", WF_QUEUE_WORKERS);
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct pool *p = (struct pool *)alloc(type, 0);
    if (!p)
        return NULL;
    p->owner = getpid();
    p->arena.fd = -1;
    p->sources = calloc(max_workers, sizeof *p->sources);
    p->pool = p->sources ? wf_pool_new(max_workers, spins, &err) : NULL;
    int fd = p->pool ? wf_arena_create(&err) : -1;
    wf_arena_init(&p->arena, fd);
    if (fd >= 0)
        return (PyObject *)p;
    if (!p->sources)
        wf_err_msg(&err, "out of memory");
    Py_DECREF(p);
    return raise_err(&err);
}

static void pool_free(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    release((struct pool *)self);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

/* The child's part of fork(): runs with the interpreter put right for a child. */
static int become_worker(struct pool *p, unsigned k) {
    struct wf_err err;
    pid_t parent = p->owner;
    int results = wf_steal_fd(&p->pool->worker[k].arena_fd), args = wf_steal_fd(&p->arena.fd);
    wf_arena_done(&p->arena);
    wf_arena_init(&p->arena, results);
    for (unsigned i = 0; i < p->pool->max_workers; i++)
        pool_forget_source(p, i);
    wf_pool_forget(p->pool, k);
    p->is_worker = true;
    if (wf_member_init(&p->member, p->pool->shared, k, p->pool->event, parent, &err) == 0)
        p->parent = source_new(args, &err);
    wf_close(&args);
    if (p->parent) {
        p->parent->reports = true;
        return 0;
    }
    raise_err(&err);
    return -1;
}

static PyObject *pool_fork(PyObject *self, PyObject *unused) {
    (void)unused;
    struct pool *p = (struct pool *)self;
    struct wf_err err;
    if (!pool_usable(self))
        return NULL;
    int k = wf_pool_prepare(p->pool, &err);
    if (k < 0)
        return raise_err(&err);
    pool_forget_source(p, (unsigned)k);
    PyOS_BeforeFork();
    pid_t pid = fork();
    if (pid == 0) {
        PyOS_AfterFork_Child();
        return become_worker(p, (unsigned)k) < 0 ? NULL : Py_BuildValue("Ii", (unsigned)k, 0);
    }
    int failed = wf_pool_adopt(p->pool, (unsigned)k, pid,
                               &err); /* errno is fork's: nothing may come before */
    PyOS_AfterFork_Parent();
    return failed ? raise_err(&err) : Py_BuildValue("Ii", (unsigned)k, (int)pid);
}

static PyObject *pool_serve(PyObject *self, PyObject *server) {
    struct pool *p = (struct pool *)self;
    if (!p->is_worker) {
        PyErr_SetString(PyExc_RuntimeError, "serve() is for workers");
        return NULL;
    }
    return serve(pool_state(self), p, server);
}

/* report(kind, bytes): a worker's word that is no task's result. */
static PyObject *pool_report(PyObject *self, PyObject *args) {
    struct pool *p = (struct pool *)self;
    struct wf_result result = { 0 };
    const char *data;
    Py_ssize_t size;
    unsigned kind;
    if (!PyArg_ParseTuple(args, "Iy#:report", &kind, &data, &size))
        return NULL;
    if (!p->is_worker || size > WF_QUEUE_PAYLOAD) {
        PyErr_SetString(PyExc_ValueError, p->is_worker ? "too long" : "report() is for workers");
        return NULL;
    }
    result.kind = kind;
    result.size = (uint32_t)size;
    while (wf_member_send(&p->member, &result, data) > 0)
        if (PyErr_CheckSignals() < 0)
            return NULL;
    Py_RETURN_NONE;
}

static PyObject *pool_push(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    struct wf_pool *pool = pool_usable(self);
    if (!pool)
        return NULL;
    if (count != 4 || !PyBytes_Check(args[2]) || !PyBytes_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "push(task, kind, bytes, bytes)");
        return NULL;
    }
    uint64_t task = PyLong_AsUnsignedLongLong(args[0]);
    unsigned long kind = PyLong_AsUnsignedLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    char *first, *second;
    Py_ssize_t first_size, second_size;
    PyBytes_AsStringAndSize(args[2], &first, &first_size);
    PyBytes_AsStringAndSize(args[3], &second, &second_size);
    if (first_size > WF_QUEUE_PAYLOAD || second_size > WF_QUEUE_PAYLOAD - first_size) {
        PyErr_SetString(PyExc_OverflowError, "a message that belongs into the arena");
        return NULL;
    }
    return PyBool_FromLong(wf_pool_push(pool, task, (uint32_t)kind, first, (size_t)first_size,
                                        second, (size_t)second_size));
}

static int64_t timeout_of(PyObject *arg) {
    if (arg == Py_None)
        return -1;
    double seconds = PyFloat_AsDouble(arg);
    return seconds <= 0 ? 0 : seconds > 1e9 ? -1 : (int64_t)(seconds * 1e9);
}

/* A signal that comes after python's last look at its signals, and before the sleep, wakes nobody
 * up. The main thread, which would act on it, looks again now and then. */
#define LOOK_NS 500000000

static int64_t until_look(int64_t timeout) {
    bool far = timeout < 0 || timeout > LOOK_NS;
    return far && gettid() == getpid() ? LOOK_NS : timeout;
}

/* The arguments of wait and lead: how many nanoseconds, and whether to begin awake. */
static struct wf_pool *wait_args(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                 int64_t *ret_timeout, bool *ret_spin) {
    struct wf_pool *pool = pool_usable(self);
    if (!pool)
        return NULL;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "(seconds or None, bool)");
        return NULL;
    }
    *ret_timeout = timeout_of(args[0]);
    *ret_spin = PyObject_IsTrue(args[1]) == 1;
    return PyErr_Occurred() ? NULL : pool;
}

/* wait(timeout, spin): until there are results, a death, or a kick; whether there may have been a
 * death. */
static PyObject *pool_wait(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    int64_t timeout;
    bool spin, deaths;
    struct wf_pool *pool = wait_args(self, args, count, &timeout, &spin);
    if (!pool)
        return NULL;
    uint64_t begin = wf_now_ns();
    if (spin && timeout != 0) {
        Py_BEGIN_ALLOW_THREADS spin = wf_pool_spin(pool, begin);
        Py_END_ALLOW_THREADS if (PyErr_CheckSignals() < 0) return NULL;
    }
    if (!wf_pool_arm_event(pool))
        timeout = 0; /* a look for deaths all the same */
    timeout = until_look(timeout);
    Py_BEGIN_ALLOW_THREADS deaths = wf_pool_sleep_event(pool, timeout);
    Py_END_ALLOW_THREADS wf_pool_waited(pool, begin);
    return PyErr_CheckSignals() < 0 ? NULL : PyBool_FromLong(deaths);
}

/* lead(timeout, spin): the same for a leader, who is woken by results and kicks only. */
static PyObject *pool_lead(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    int64_t timeout;
    bool spin;
    struct wf_pool *pool = wait_args(self, args, count, &timeout, &spin);
    if (!pool)
        return NULL;
    if (!pool->leader)
        wf_pool_lead(pool, true);
    uint64_t begin = wf_now_ns();
    if (spin) {
        Py_BEGIN_ALLOW_THREADS spin = wf_pool_spin(pool, begin);
        Py_END_ALLOW_THREADS if (PyErr_CheckSignals() < 0) return NULL;
    }
    timeout = until_look(timeout);
    if (!atomic_exchange(&pool->kicked, false) && wf_pool_arm_futex(pool)) {
        Py_BEGIN_ALLOW_THREADS wf_pool_sleep_futex(pool, timeout);
        Py_END_ALLOW_THREADS
    }
    wf_pool_waited(pool, begin);
    if (PyErr_CheckSignals() < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *pool_follow(PyObject *self, PyObject *unused) {
    (void)unused;
    struct pool *p = (struct pool *)self;
    if (p->pool && p->pool->leader && p->owner == getpid())
        wf_pool_lead(p->pool, false);
    Py_RETURN_NONE;
}

static PyObject *pool_kick(PyObject *self, PyObject *unused) {
    (void)unused;
    struct pool *p = (struct pool *)self;
    if (p->pool && p->owner == getpid() && !p->is_worker)
        wf_pool_kick(p->pool);
    Py_RETURN_NONE;
}

static uint64_t task_of(PyObject *arg) { return PyLong_AsUnsignedLongLong(arg); }

static PyObject *pool_revoke(PyObject *self, PyObject *arg) {
    struct wf_pool *pool = pool_usable(self);
    uint64_t task = pool ? task_of(arg) : 0;
    return !pool || PyErr_Occurred() ? NULL : PyBool_FromLong(wf_tasks_revoke(&pool->tasks, task));
}

static PyObject *pool_doom(PyObject *self, PyObject *arg) {
    struct wf_pool *pool = pool_usable(self);
    uint64_t task = pool ? task_of(arg) : 0;
    return !pool || PyErr_Occurred() ? NULL : PyBool_FromLong(wf_pool_doom(pool, task));
}

/* running(task): when it was started, in nanoseconds, or 0. */
static PyObject *pool_running(PyObject *self, PyObject *arg) {
    struct wf_pool *pool = pool_usable(self);
    uint64_t started = 0, task = pool ? task_of(arg) : 0;
    if (!pool || PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLongLong(wf_pool_runs(pool, task, &started) < 0 ? 0 : started);
}

static PyObject *pool_idle(PyObject *self, PyObject *unused) {
    (void)unused;
    struct wf_pool *pool = pool_usable(self);
    return pool ? PyLong_FromLong(wf_pool_idle(pool)) : NULL;
}

static PyObject *pool_close(PyObject *self, PyObject *arg) {
    struct wf_pool *pool = pool_usable(self);
    int now = pool ? PyObject_IsTrue(arg) : -1;
    if (now < 0)
        return NULL;
    wf_pool_close(pool, now);
    Py_RETURN_NONE;
}

static PyObject *pool_release(PyObject *self, PyObject *unused) {
    (void)unused;
    if (((struct pool *)self)->pool && !pool_usable(self))
        return NULL;
    release((struct pool *)self);
    Py_RETURN_NONE;
}

/* dumps(object, room, pickler): an object as the bytes to push, and what they add to the kind. */
static PyObject *pool_dumps(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    struct pool *p = (struct pool *)self;
    if (!pool_usable(self))
        return NULL;
    Py_ssize_t room = count == 3 ? PyLong_AsSsize_t(args[1]) : -1;
    if (room < 0) {
        PyErr_SetString(PyExc_TypeError, "dumps(object, room, class or None)");
        return NULL;
    }
    uint32_t kind = 0;
    PyObject *class = args[2] == Py_None ? NULL : args[2];
    PyObject *message = encode(pool_state(self), &p->writer, &p->arena, args[0], class,
                               (size_t)room, &kind);
    return message ? Py_BuildValue("IN", kind, message) : NULL;
}

/* unspill(bytes): nobody will read that message any more. */
static PyObject *pool_unspill(PyObject *self, PyObject *pairs) {
    struct pool *p = (struct pool *)self;
    if (!PyBytes_Check(pairs)) {
        PyErr_SetString(PyExc_TypeError, "unspill(bytes)");
        return NULL;
    }
    if (p->pool && p->owner == getpid())
        spill_undo(&p->arena, PyBytes_AsString(pairs), (size_t)PyBytes_Size(pairs));
    Py_RETURN_NONE;
}

/* hold(bytes, worker): it has the message now, and keeps its buffers as long as it likes or lives.
 */
static PyObject *pool_hold(PyObject *self, PyObject *args) {
    struct pool *p = (struct pool *)self;
    const char *pairs;
    Py_ssize_t size;
    unsigned k;
    if (!pool_usable(self) || !PyArg_ParseTuple(args, "y#I:hold", &pairs, &size, &k))
        return NULL;
    uint64_t pair[2];
    for (Py_ssize_t at = 0; at + (Py_ssize_t)sizeof pair <= size; at += sizeof pair) {
        memcpy(pair, pairs + at, sizeof pair);
        wf_arena_hold(&p->arena, pair[0], (int)k);
    }
    Py_RETURN_NONE;
}

static PyObject *pool_count(PyObject *self, void *unused) {
    (void)unused;
    struct pool *p = (struct pool *)self;
    return PyLong_FromUnsignedLong(p->pool && !p->is_worker ? p->pool->workers : 0);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))
static PyMethodDef pool_methods[] = {
    { "fork", pool_fork, METH_NOARGS,
      "Forks a worker: (number, pid), and in the child (number, 0)." },
    { "report", pool_report, METH_VARARGS, "Tells the parent something that is no result." },
    { "serve", pool_serve, METH_O, "The worker's loop." },
    { "push", FAST(pool_push), METH_FASTCALL, "Queues a task; False: no room." },
    { "drain", pool_drain, METH_O, "Adds results to a list: (task, kind, value, worker, record)." },
    { "deaths", pool_deaths, METH_NOARGS,
      "Workers that have ended, whose results have been drained." },
    { "wait", FAST(pool_wait), METH_FASTCALL,
      "Sleeps until something happens, at most so many seconds." },
    { "lead", FAST(pool_lead), METH_FASTCALL, "Sleeps as the leader." },
    { "follow", pool_follow, METH_NOARGS, "Leads no longer." },
    { "kick", pool_kick, METH_NOARGS, "Ends the sleep of another thread." },
    { "revoke", pool_revoke, METH_O, "Takes back a task that nobody has begun." },
    { "doom", pool_doom, METH_O, "Kills the worker that runs a task." },
    { "running", pool_running, METH_O, "When a task was started, or 0." },
    { "idle", pool_idle, METH_NOARGS, "Workers that have nothing to do." },
    { "close", pool_close, METH_O, "Workers leave, at once if true." },
    { "release", pool_release, METH_NOARGS, "Frees everything; kills what still lives." },
    { "dumps", FAST(pool_dumps), METH_FASTCALL, "Pickles a message: (kind, bytes to push)." },
    { "unspill", pool_unspill, METH_O, "Frees a large message." },
    { "hold", pool_hold, METH_VARARGS, "A large message is the worker's until it lets go." },
    { "workers", pool_workers, METH_NOARGS, "What each worker does." },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef pool_getset[] = {
    { "count", pool_count, NULL, "How many workers there are.", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot pool_slots[] = {
    { Py_tp_new, (void *)(uintptr_t)pool_new },
    { Py_tp_dealloc, (void *)(uintptr_t)pool_free },
    { Py_tp_methods, pool_methods },
    { Py_tp_getset, pool_getset },
    { 0, NULL },
};

static PyType_Spec pool_spec = {
    .name = "warmfork._queue.Pool",
    .basicsize = sizeof(struct pool),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = pool_slots,
};

int pool_setup(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &pool_spec, NULL);
    int failed = !type || PyModule_AddType(module, (PyTypeObject *)type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}
