/* What importing a module must not do if it is to be preloaded: a fingerprint of the process is
 * taken before and compared after. The program that imports it later must find what it would have
 * found, and see done what it would have seen. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include "base/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct zy_print {
    int output, input; /* memfds on 1 and 2, and on 0 */
    char cwd[4096];
    dev_t cwd_dev;
    ino_t cwd_ino;
    mode_t umask;
    int nice;
    struct rlimit limit[WF_LIMITS];
    unsigned asked_cwd;
    size_t written; /* bytes of names in _observe.so's list of files written */
    size_t read;    /* the same of files read */
    struct rusage children;
    PyObject *stream[3]; /* borrowed */
};

static size_t observed_size(enum zy_observed kind) {
    const char *names;
    size_t size = 0;
    zy_observed(kind, &names, &size, NULL);
    return size;
}

/* /proc/PID/environ shows the environment of the exec, which is another program's than the one that
 * will import this. */
static bool read_proc_environ(size_t from) {
    const char *names;
    size_t size = 0;
    if (zy_observed(ZY_OBSERVED_FILES, &names, &size, NULL) < 0)
        return true;
    for (size_t at = from; at < size; at += strlen(names + at) + 1)
        if (strncmp(names + at, "/proc/", 6) == 0 && strstr(names + at, "/environ") != NULL)
            return true;
    return false;
}

static void measure(struct zy_print *p) {
    static const char *const stream[] = { "stdin", "stdout", "stderr" };
    struct stat st;
    /* In ways that _observe.so does not count. */
    if (syscall(SYS_getcwd, p->cwd, sizeof p->cwd) < 0)
        p->cwd[0] = '\0';
    if (stat("/proc/self/cwd", &st) == 0) {
        p->cwd_dev = st.st_dev;
        p->cwd_ino = st.st_ino;
    }
    p->umask = umask(0);
    umask(p->umask);
    errno = 0;
    p->nice = getpriority(PRIO_PROCESS, 0);
    for (int i = 0; i < WF_LIMITS; i++)
        getrlimit((__rlimit_resource_t)i, &p->limit[i]);
    p->asked_cwd = zy_observed_calls("wf_observe_cwd") - zy_noted_count(p->cwd);
    p->written = observed_size(ZY_OBSERVED_WRITTEN);
    p->read = observed_size(ZY_OBSERVED_FILES);
    getrusage(RUSAGE_CHILDREN, &p->children);
    for (int i = 0; i < 3; i++)
        p->stream[i] = zp_get(zp.sys_dict, stream[i]);
}

struct zy_print *zy_print_take(int output, int input, struct wf_err *err) {
    struct zy_print *p = calloc(1, sizeof *p);
    if (p == NULL)
        return wf_err_sys(err, "malloc", "the state before an import"), NULL;
    measure(p);
    p->output = output;
    p->input = input;
    return p;
}

static bool streams_differ(const struct zy_print *before, const struct zy_print *after,
                           char *reason, size_t size) {
    static const char *const stream[] = { "stdin", "stdout", "stderr" };
    struct stat st;
    PyObject *flushed = before->stream[1] ? PyObject_CallMethod(before->stream[1], "flush", NULL)
                                          : NULL;
    Py_XDECREF(flushed);
    PyErr_Clear();
    fflush(NULL);
    for (int i = 0; i < 3; i++) {
        if (before->stream[i] != after->stream[i]) {
            wf_fmt(reason, size, "replaced sys.%s", stream[i]);
            return true;
        }
    }
    if (before->output >= 0 && fstat(before->output, &st) == 0 && st.st_size > 0) {
        wf_fmt(reason, size, "wrote %ld bytes to stdout or stderr", (long)st.st_size);
        return true;
    }
    if (before->input >= 0 && lseek(before->input, 0, SEEK_CUR) != 0) {
        wf_fmt(reason, size, "read stdin");
        return true;
    }
    return false;
}

/* State that the set-up of a run overwrites with the caller's. */
static const char *state_differs(const struct zy_print *before, const struct zy_print *after) {
    /* Not its name: somebody may have renamed or removed it meanwhile. */
    if (before->cwd_dev != after->cwd_dev || before->cwd_ino != after->cwd_ino)
        return "changed the working directory";
    if (before->umask != after->umask)
        return "changed the umask";
    if (before->nice != after->nice)
        return "changed its niceness";
    if (memcmp(before->limit, after->limit, sizeof after->limit) != 0)
        return "changed a resource limit";
    if (before->asked_cwd != after->asked_cwd && !zy_here_bind())
        return "asked for the working directory";
    return NULL;
}

bool zy_print_differs(const struct zy_print *before, char *reason, size_t size) {
    struct zy_print now = { 0 };
    measure(&now);
    const char *state = state_differs(before, &now);
    if (memcmp(&before->children, &now.children, sizeof now.children) != 0) {
        zy_inputs_all(); /* a child ran, and was given the environment as a whole, … */
        if (state == NULL && !zy_here_bind())
            state = "ran a program, which may have asked for the working directory";
    }
    if (streams_differ(before, &now, reason, size))
        return true;
    if (state != NULL)
        wf_fmt(reason, size, "%s", state);
    else if (read_proc_environ(before->read))
        wf_fmt(reason, size, "read its environment from /proc");
    else if (now.written != before->written)
        wf_fmt(reason, size, "wrote a file");
    else
        return zy_hazards(reason, size);
    return true;
}
