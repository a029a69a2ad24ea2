/* What would be the same in every worker, and must not be: the main thread's id, and numpy.random's
 * global generator, which nothing reseeds (`random` reseeds itself after a fork).
 *
 * Its seed() writes to more than a hundred pages. So the zygote seeds it once and keeps a state
 * whose key is an array at a known address; a standby fills that array with random words and sets
 * the state: 24 pages. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include <sys/random.h>
#include <unistd.h>

static struct {
    PyObject *generator, *state; /* owned for life; NULL without numpy.random */
    void *key;
    size_t size;
} numpy_random;

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
    PyObject *mtrand = zp_get(zp.modules, "numpy.random.mtrand");
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

void zy_reseed(void) {
    renew_native_id();
    if (numpy_random.key == NULL)
        return;
    if (getrandom(numpy_random.key, numpy_random.size, 0) != (ssize_t)numpy_random.size ||
        PyObject_SetAttrString(numpy_random.generator, "state", numpy_random.state) < 0)
        _exit(9);
}
