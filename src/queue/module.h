/* What the files of the extension module share. They include Python.h before this. */
#pragma once

#include "queue/arena.h"
#include "queue/pool.h"
#include "queue/worker.h"

/* Kinds of messages; python/warmfork/_messages.py has the same numbers. */
enum {
    MSG_CALL =
        0, /* task: function, pickled tuple of arguments. Other tasks are the Python side's */
    MSG_NONE = 0, /* result: None */
    MSG_VALUE = 1,
    MSG_ERROR = 2,
    MSG_FREED = 3, /* no result: u64 offsets in the parent's arena that the worker has let go of */
    MSG_BAD = 4,   /* only in what drain() returns: the result could not be unpickled */
    MSG_SEGMENTS = 0x100, /* the body lies in the sender's arena: pairs of u64 offset and size, the
                             pickle first */
};

enum { OUT_OF_BAND = 1 << 15 }; /* buffers of so many bytes travel outside of the pickle */

/* Where mapped segments came from, and who wants to know that they are free. One per arena and
 * reader. */
struct source {
    size_t refs;
    int fd;               /* its own */
    pid_t reader;         /* a forked child of the reader has no say */
    struct wf_pool *pool; /* the parent's: of the worker `k`, NULL when that is dead */
    unsigned k;
    uint64_t *freed; /* the worker's: to be reported */
    size_t freed_count, freed_room;
    bool reports;
};

struct source *source_new(int fd, struct wf_err *err); /* duplicates fd */
void source_drop(struct source *s);

struct module_state {
    PyTypeObject *segment_type;
    PyObject *loads, *pickler; /* pickle's */
    PyObject *namespace;       /* types.SimpleNamespace */
};

extern struct PyModuleDef queue_module;
int segment_setup(PyObject *module, struct module_state *state);
int pool_setup(PyObject *module);
int chain_setup(PyObject *module);

/* local_functions(roots, type, …): see functionsmodule.c. */
PyObject *local_functions(PyObject *self, PyObject *const *args, Py_ssize_t count);

/* A RuntimeError or OSError of `err`; returns NULL. */
PyObject *raise_err(const struct wf_err *err);

/* Unpickles what lies in segments, mapping buffers without a copy. `pairs` as in MSG_SEGMENTS. */
PyObject *load_segments(struct module_state *state, struct source *source, const void *pairs,
                        size_t size);

int message_setup(struct module_state *state);
void message_clear(struct module_state *state);

/* What pickles the messages of one process. The pickle is never copied on its way to the arena:
 * pickle hands it over in pieces, of which a large bytes object is one. */
struct writer {
    PyObject *pieces, *buffers;  /* lists: of bytes, and of large buffers outside of the pickle */
    PyObject *dump, *clear_memo; /* methods of a pickler that is used again; NULL: make one */
    bool busy;                   /* pickling has led to another message */
};
void writer_clear(struct writer *writer);

/* Pickles `object`, with the class `pickler` (NULL: pickle's own). Returns bytes: the pickle, or if
 * it is longer than `room` or has large buffers, its pairs in the arena, and *kind gets
 * MSG_SEGMENTS. */
PyObject *encode(struct module_state *state, struct writer *writer, struct wf_arena *arena,
                 PyObject *object, PyObject *pickler, size_t room, uint32_t *kind);

/* Writes a pickle in pieces and its buffers to an arena: the pairs of MSG_SEGMENTS, as bytes. */
PyObject *spill(struct wf_arena *arena, PyObject *pieces, PyObject *buffers);
void spill_undo(struct wf_arena *arena, const void *pairs, size_t size);

/* The objects of warmfork._queue.Pool. */
struct pool {
    PyObject_HEAD struct wf_pool *pool; /* NULL: freed */
    pid_t owner;                        /* whose pool it is: a forked child may only forget it */
    struct wf_arena
        arena; /* what this process writes: the parent's arguments, or a worker's results */
    struct source **sources; /* the parent's: of each worker, made when first needed */
    struct source *parent;   /* the worker's: of the parent's arena */
    struct writer writer;
    struct wf_member member;
    bool is_worker;
};

/* Pool.serve(server): the worker's loop. */
PyObject *serve(struct module_state *state, struct pool *pool, PyObject *server);

struct module_state *pool_state(PyObject *self);
/* The pool, if it may be used here; else NULL and an exception. */
struct wf_pool *pool_usable(PyObject *self);
/* Worker k is gone: what was mapped from its arena stays, and goes back to the system one by one.
 */
void pool_forget_source(struct pool *p, unsigned k);

/* Methods of Pool in drainmodule.c. */
PyObject *pool_drain(PyObject *self, PyObject *unused);
PyObject *pool_deaths(PyObject *self, PyObject *unused);
PyObject *pool_workers(PyObject *self, PyObject *unused);
