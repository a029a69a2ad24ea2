/* What importing a module must not do if it is to be preloaded: a fingerprint of the process is
 * taken before and compared after. The program that imports it later must find what it would have
 * found, and see done what it would have seen. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

struct zy_print {
    int output, input; /* memfds on 1 and 2, and on 0 */
    char cwd[4096];
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
    ssize_t size = readlink("/proc/self/cwd", p->cwd, sizeof p->cwd - 1);
    p->cwd[size > 0 ? size : 0] = '\0';
    p->umask = umask(0);
    umask(p->umask);
    errno = 0;
    p->nice = getpriority(PRIO_PROCESS, 0);
    for (int i = 0; i < WF_LIMITS; i++)
        getrlimit((__rlimit_resource_t)i, &p->limit[i]);
    /* multiprocessing notes the directory when imported; set-up puts the caller's there, so that is
     * allowed. */
    p->asked_cwd = zy_observed_calls("wf_observe_cwd") -
                   (zp_get(zp.modules, "multiprocessing.process") != NULL);
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

static int task_count(char *ret_names, size_t size) {
    DIR *dir = opendir("/proc/self/task");
    int n = 0;
    size_t used = 0;
    pid_t self = getpid();
    ret_names[0] = '\0';
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] == '.')
            continue;
        n++;
        char path[300], name[64];
        wf_fmt(path, sizeof path, "/proc/self/task/%s/comm", d->d_name);
        int fd = atoi(d->d_name) == self ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? 0 : read(fd, name, sizeof name - 1);
        wf_close(&fd);
        if (got > 1 && used < size)
            used += wf_fmt(ret_names + used, size - used, " %.*s", (int)got - 1, name);
    }
    if (dir != NULL)
        closedir(dir);
    return n;
}

/* Threads that end at a fork (OpenBLAS has handlers that do so) are no hazard: a fork that does
 * nothing tells. */
static int threads_left(char *names, size_t size) {
    pid_t pid = 0;
    if (task_count(names, size) <= 1)
        return 0;
    switch (zy_fork(&pid, NULL)) {
    case ZY_CHILD:
        _exit(0);
    case ZY_PARENT:
        waitpid(pid, NULL, 0);
        break;
    case ZY_FORK_FAILED:
        break;
    }
    return task_count(names, size) - 1;
}

/* A descriptor left open would be shared by programs that know nothing of each other, position and
 * all. */
static bool descriptor_left(char *ret_what, size_t size) {
    DIR *dir = opendir("/proc/self/fd");
    bool left = false;
    for (struct dirent *d; dir != NULL && !left && (d = readdir(dir)) != NULL;) {
        char target[128];
        int fd = atoi(d->d_name);
        ssize_t n = readlinkat(dirfd(dir), d->d_name, target, sizeof target - 1);
        if (n <= 0 || fd < 3 || fd >= ZY_FD_BASE || fd == dirfd(dir))
            continue;
        wf_fmt(ret_what, size, "%.*s", (int)n, target);
        left = true;
    }
    if (dir != NULL)
        closedir(dir);
    return left;
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

/* State that a fork would not hand on, or that the set-up of a run overwrites with the caller's. */
static const char *state_differs(const struct zy_print *before, const struct zy_print *after) {
    static const int timers[] = { ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF };
    if (strcmp(before->cwd, after->cwd) != 0)
        return "changed the working directory";
    if (before->umask != after->umask)
        return "changed the umask";
    if (before->nice != after->nice)
        return "changed its niceness";
    if (memcmp(before->limit, after->limit, sizeof after->limit) != 0)
        return "changed a resource limit";
    for (size_t i = 0; i < 3; i++) {
        struct itimerval t;
        if (getitimer(timers[i], &t) == 0 && (t.it_value.tv_sec || t.it_value.tv_usec))
            return "set a timer";
    }
    if (before->asked_cwd != after->asked_cwd)
        return "asked for the working directory";
    return NULL;
}

bool zy_print_differs(const struct zy_print *before, char *reason, size_t size) {
    struct zy_print now = { 0 };
    char what[160];
    siginfo_t info = { 0 };
    int threads;
    measure(&now);
    if (memcmp(&before->children, &now.children, sizeof now.children) != 0)
        zy_inputs_all(); /* a child ran, and was given the environment as a whole */
    const char *state = state_differs(before, &now);
    if (streams_differ(before, &now, reason, size))
        return true;
    if (state != NULL)
        wf_fmt(reason, size, "%s", state);
    else if (read_proc_environ(before->read))
        wf_fmt(reason, size, "read its environment from /proc");
    else if (now.written != before->written)
        wf_fmt(reason, size, "wrote a file");
    else if ((threads = threads_left(what, sizeof what)) > 0)
        wf_fmt(reason, size, "left %d thread(s) running, which a fork would lose:%s", threads,
               what);
    else if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
        wf_fmt(reason, size, "left a child process");
    else if (descriptor_left(what, sizeof what))
        wf_fmt(reason, size, "left a descriptor open: %s", what);
    else
        return false;
    return true;
}
