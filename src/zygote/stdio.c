/* sys.stdin, sys.stdout and sys.stderr: the same objects as in the zygote, built anew in place for
 * the caller's files (libraries keep references to sys.stdout, so it must not be another object).
 *
 * Building three of them costs 70 us and more. Standbys therefore build them ahead, on dummies of
 * the kind that the last run had; a run whose files are of those kinds has nothing left to do. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

static struct {
    PyObject *text[3], *buffer[3], *raw[3]; /* buffer == raw when python runs with -u */
    PyObject *encoding[3], *errors[3];
    bool unbuffered[3];
    struct zy_stdkind kinds[3]; /* what the objects are built for */
} stdio;

static const char *const names[3] = { "stdin", "stdout", "stderr" };

void zy_stdio_measure(int fd, struct zy_stdkind *ret) {
    struct stat st;
    *ret = (struct zy_stdkind){ 0 };
    if (fstat(fd, &st) < 0)
        return;
    ret->type = st.st_mode & S_IFMT;
    ret->blksize = (uint32_t)st.st_blksize;
    if (S_ISCHR(st.st_mode) && st.st_rdev != makedev(1, 3)) {
        struct termios t;
        ret->tty = ioctl(fd, TCGETS, &t) == 0;
    }
    if (S_ISSOCK(st.st_mode))
        ret->type = S_IFIFO; /* alike to Python: neither seeks */
    if (S_ISREG(st.st_mode))
        ret->moved = lseek(fd, 0, SEEK_CUR) != 0;
}

static bool same_kind(const struct zy_stdkind *a, const struct zy_stdkind *b) {
    return a->type == b->type && a->blksize == b->blksize && a->tty == b->tty && !a->moved &&
           !b->moved;
}

int zy_stdio_init(void) {
    for (int i = 0; i < 3; i++) {
        char dunder[16];
        wf_fmt(dunder, sizeof dunder, "__%s__", names[i]);
        PyObject *text = zp_get(zp.sys_dict, dunder);
        if (text == NULL || text == Py_None) {
            PyErr_Format(PyExc_RuntimeError, "sys.%s is missing", dunder);
            return -1;
        }
        Py_INCREF(text);
        stdio.text[i] = text;
        stdio.buffer[i] = PyObject_GetAttrString(text, "buffer");
        stdio.encoding[i] = PyObject_GetAttrString(text, "encoding");
        stdio.errors[i] = PyObject_GetAttrString(text, "errors");
        if (stdio.buffer[i] == NULL || stdio.encoding[i] == NULL || stdio.errors[i] == NULL)
            return -1;
        stdio.raw[i] = PyObject_GetAttrString(stdio.buffer[i], "raw");
        if (stdio.raw[i] == NULL) {
            PyErr_Clear();
            stdio.raw[i] = stdio.buffer[i];
            Py_INCREF(stdio.raw[i]);
            stdio.unbuffered[i] = true;
        }
        zy_stdio_measure(i, &stdio.kinds[i]);
    }
    return 0;
}

/* Calls obj.__init__(*args) and drops args. */
static int init_again(PyObject *obj, PyObject *args) {
    PyObject *init = args ? PyObject_GetAttrString(obj, "__init__") : NULL;
    PyObject *done = init ? PyObject_Call(init, args, NULL) : NULL;
    Py_XDECREF(init);
    Py_XDECREF(args);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static int set_text(PyObject *obj, const char *attr, const char *format, const char *value) {
    PyObject *text = PyUnicode_FromFormat(format, value);
    int failed = text == NULL || PyObject_SetAttrString(obj, attr, text) < 0;
    Py_XDECREF(text);
    return failed ? -1 : 0;
}

/* A raw file notes the block size of what it is opened on: a dummy's may be another. New reference.
 */
static PyObject *block_size(int i) {
    PyObject *noted = PyObject_GetAttrString(stdio.raw[i], "_blksize");
    long size = noted ? PyLong_AsLong(noted) : -1;
    if (PyErr_Occurred())
        Py_CLEAR(noted);
    if (noted == NULL || size == (long)stdio.kinds[i].blksize ||
        stdio.kinds[i].blksize <= 1) /* python's default */
        return noted;
    Py_DECREF(noted);
    PyObject *wanted = PyLong_FromUnsignedLong(stdio.kinds[i].blksize);
    if (wanted != NULL && PyObject_SetAttrString(stdio.raw[i], "_blksize", wanted) < 0)
        Py_CLEAR(wanted);
    return wanted;
}

/* What create_stdio() in CPython's pylifecycle.c does, on the objects that exist; but for the raw
 * file, a new object because it remembers for ever whether it could seek. */
static int build(int i) {
    int writes = i > 0;
    PyObject *args = Py_BuildValue("(isO)", i, writes ? "wb" : "rb", Py_False);
    PyObject *raw = args ? PyObject_Call(zp.io_file, args, NULL) : NULL;
    Py_XDECREF(args);
    if (raw == NULL)
        return -1;
    Py_DECREF(stdio.raw[i]);
    stdio.raw[i] = raw;
    if (stdio.unbuffered[i]) {
        Py_INCREF(raw);
        Py_DECREF(stdio.buffer[i]);
        stdio.buffer[i] = raw;
    }
    if (set_text(stdio.raw[i], "name", "<%s>", names[i]) < 0)
        return -1;
    PyObject *size = block_size(i);
    int failed = size == NULL;
    if (!failed && !stdio.unbuffered[i])
        failed = init_again(stdio.buffer[i], PyTuple_Pack(2, stdio.raw[i], size)) < 0;
    Py_XDECREF(size);
    if (failed)
        return -1;
    int through =
        stdio.unbuffered[1]; /* -u; it leaves stdin's buffer alone, so that does not tell */
    int line = !through && (stdio.kinds[i].tty || i == 2);
    args = Py_BuildValue("(OOOsii)", stdio.buffer[i], stdio.encoding[i], stdio.errors[i], "\n",
                         line, through);
    if (init_again(stdio.text[i], args) < 0)
        return -1;
    return set_text(stdio.text[i], "mode", "%s", writes ? "w" : "r");
}

/* A file of that kind on descriptor `fd`, good enough to build stream objects on: all that they ask
 * of a terminal is whether it can seek. */
static void dummy(int fd, const struct zy_stdkind *kind) {
    int made = -1, pair[2];
    if ((kind->type == S_IFIFO || kind->tty) && pipe2(pair, O_CLOEXEC) == 0) {
        made = pair[fd > 0];
        close(pair[fd == 0]);
    } else if (kind->type == S_IFREG) {
        made = memfd_create("warmfork-dummy", MFD_CLOEXEC);
    }
    if (made < 0)
        made = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (made >= 0 && made != fd) {
        dup2(made, fd);
        close(made);
    }
}

int zy_stdio_prepare(const struct zy_stdkind kinds[3]) {
    for (int i = 0; i < 3; i++) {
        dummy(i, &kinds[i]);
        zy_stdio_measure(i, &stdio.kinds[i]);
        struct zy_stdkind made = stdio.kinds[i];
        if (kinds[i].tty) {
            stdio.kinds[i] = kinds[i];
            if (build(i) == 0)
                continue;
            /* An interpreter that does not let us set what a terminal would have: built when it
             * comes. */
            PyErr_Clear();
            stdio.kinds[i] = made;
        }
        if (build(i) < 0)
            return -1;
    }
    return 0;
}

int zy_stdio_take(const struct zy_job *job) {
    for (int i = 0; i < 3; i++) {
        const struct zy_stdkind *kind = &job->kinds[i];
        if (kind->type == 0) { /* closed: python has None there */
            char dunder[16];
            wf_fmt(dunder, sizeof dunder, "__%s__", names[i]);
            if (PyDict_SetItemString(zp.sys_dict, names[i], Py_None) < 0 ||
                PyDict_SetItemString(zp.sys_dict, dunder, Py_None) < 0)
                return -1;
            continue;
        }
        if (same_kind(kind, &stdio.kinds[i]))
            continue;
        stdio.kinds[i] = *kind;
        if (build(i) < 0)
            return -1;
    }
    return 0;
}

bool zy_stdio_has(PyObject *obj) {
    for (int i = 0; i < 3; i++)
        if (obj == stdio.text[i] || obj == stdio.buffer[i] || obj == stdio.raw[i])
            return true;
    return false;
}

void zy_stdio_flush(void) {
    for (int i = 1; i < 3; i++) {
        PyObject *layers[] = { stdio.text[i], stdio.buffer[i] };
        for (int k = 0; k < 2; k++) {
            PyObject *done = PyObject_CallMethod(layers[k], "flush", NULL);
            Py_XDECREF(done);
            PyErr_Clear(); /* closed, detached, or a full device: python is as silent when it drops
                              them */
        }
    }
}
