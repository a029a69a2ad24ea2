/* What would be the same in every worker, and must not be: the main thread's id, and the random
 * number generators that the system has seeded while warming up. What was seeded with a number, or
 * given a state, is the same in every run of python as well, and is left alone; `random` reseeds
 * its own after a fork in any case, so that one gets its state back.
 *
 * numpy.random's global generator is in every zygote that has numpy, and its seed() writes to more
 * than a hundred pages. So the zygote seeds it once and keeps a state whose key is an array at a
 * known address; a standby fills that array with random words and sets the state: 24 pages. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include <dlfcn.h>
#include <sys/random.h>
#include <unistd.h>

static struct {
    PyObject *generator, *state; /* owned for life; NULL without numpy.random */
    void *key;
    size_t size;
} numpy_random;

static struct {
    PyObject *plain, *bits; /* lists: random.Random, numpy's bit generators; NULL: not looked yet */
    PyObject *own, *state;  /* random's own generator and the state it is to have, or NULL */
    bool numpy;             /* numpy.random's global generator was seeded by the system */
} found;

/* A list of all that the system was asked for as a seed. */
static PyObject *list_seeds(void) {
    size_t (*get)(unsigned, const void **);
    *(void **)&get = dlsym(RTLD_DEFAULT, "wf_observe_seed");
    PyObject *list = PyList_New(0);
    const void *data;
    size_t size;
    for (unsigned i = 0; get != NULL && list != NULL && (size = get(i, &data)) > 0; i++) {
        PyObject *seed = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
        if (seed == NULL || PyList_Append(list, seed) < 0)
            Py_CLEAR(list);
        Py_XDECREF(seed);
    }
    return list;
}

int zy_reseed_find(PyObject *space) {
    PyObject *function = zp_get(space, "generators"), *random = zp_get(zp.modules, "random");
    PyObject *seeds = list_seeds(), *objects = zy_collector_own(), *state = NULL;
    PyObject *answer = seeds && objects
                           ? PyObject_CallFunctionObjArgs(function, seeds, objects, NULL)
                           : NULL;
    Py_XDECREF(seeds);
    Py_XDECREF(objects);
    Py_CLEAR(found.plain);
    Py_CLEAR(found.bits);
    Py_CLEAR(found.own);
    Py_CLEAR(found.state);
    int numpy = 0;
    int failed = answer == NULL ||
                 !PyArg_ParseTuple(answer, "OOpO", &found.plain, &found.bits, &numpy, &state);
    found.numpy = numpy;
    Py_XINCREF(found.plain);
    Py_XINCREF(found.bits);
    if (!failed && state != Py_None) {
        Py_INCREF(state);
        found.state = state;
        found.own = PyObject_GetAttrString(random, "_inst");
        failed = found.own == NULL;
    }
    Py_XDECREF(answer);
    return failed ? -1 : 0;
}

/* Follows a path of attributes, or of items where a step begins with "[", from `from` (borrowed).
 */
static PyObject *follow(PyObject *from, const char *const *step) {
    PyObject *at = from;
    Py_XINCREF(at);
    for (; at != NULL && *step != NULL; step++) {
        PyObject *next = (*step)[0] == '[' ? PyMapping_GetItemString(at, *step + 1)
                                           : PyObject_GetAttrString(at, *step);
        Py_DECREF(at);
        at = next;
    }
    return at;
}

void zy_reseed_prepare(void) {
    static const char *const to_generator[] = { "_rand", "_bit_generator", NULL };
    static const char *const to_state[] = { "state", NULL };
    static const char *const to_address[] = { "[state", "[key", "ctypes", "data", NULL };
    static const char *const to_size[] = { "[state", "[key", "nbytes", NULL };
    PyObject *mtrand = found.numpy ? zp_get(zp.modules, "numpy.random.mtrand") : NULL;
    PyObject *done = mtrand ? PyObject_CallMethod(mtrand, "seed", NULL)
                            : NULL; /* also forgets a spare gaussian */
    PyObject *generator = done ? follow(mtrand, to_generator) : NULL;
    PyObject *state = generator ? follow(generator, to_state) : NULL;
    PyObject *address = state ? follow(state, to_address) : NULL;
    PyObject *size = address ? follow(state, to_size) : NULL;
    if (size != NULL) {
        numpy_random.key = PyLong_AsVoidPtr(address);
        numpy_random.size = PyLong_AsSize_t(size);
        numpy_random.generator = generator;
        numpy_random.state = state;
    }
    Py_XDECREF(done);
    Py_XDECREF(address);
    Py_XDECREF(size);
    PyErr_Clear();
}

/* threading notes the kernel's id of the main thread when it is imported. */
static void renew_native_id(void) {
    PyObject *threading = zp_get(zp.modules, "threading");
    PyObject *thread = threading ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
    PyObject *done = thread ? PyObject_CallMethod(thread, "_set_native_id", NULL) : NULL;
    Py_XDECREF(done);
    Py_XDECREF(thread);
    PyErr_Clear();
}

/* What random.Random() and numpy's bit generators do when they are made. */
static void seed_found(void) {
    PyObject *module = zp_get(zp.modules, "_random");
    PyObject *type = module ? PyObject_GetAttrString(module, "Random") : NULL;
    for (Py_ssize_t i = 0; found.plain != NULL && i < PyList_Size(found.plain); i++) {
        PyObject *one = PyList_GetItem(found.plain, i);
        PyObject *done = type ? PyObject_CallMethod(type, "seed", "(O)", one) : NULL;
        if (done == NULL || PyObject_SetAttrString(one, "gauss_next", Py_None) < 0)
            _exit(9);
        Py_DECREF(done);
    }
    for (Py_ssize_t i = 0; found.bits != NULL && i < PyList_Size(found.bits); i++) {
        PyObject *one = PyList_GetItem(found.bits, i);
        PyObject *done = PyObject_CallMethod((PyObject *)Py_TYPE(one), "__init__", "(O)", one);
        if (done == NULL)
            _exit(9);
        Py_DECREF(done);
    }
    Py_XDECREF(type);
}

void zy_reseed(void) {
    renew_native_id();
    seed_found();
    PyObject *done = found.own ? PyObject_CallMethod(found.own, "setstate", "(O)", found.state)
                               : NULL;
    if (found.own != NULL && done == NULL)
        _exit(9);
    Py_XDECREF(done);
    if (numpy_random.key == NULL)
        return;
    if (getrandom(numpy_random.key, numpy_random.size, 0) != (ssize_t)numpy_random.size ||
        PyObject_SetAttrString(numpy_random.generator, "state", numpy_random.state) < 0)
        _exit(9);
}
