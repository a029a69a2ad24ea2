/* See attempt.h. One process keeps count and forks; the attempt says what it is doing before it
 * does it, so that even an import that kills it has a name. */
#include "zygote/attempt.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What an attempt says of itself: one atomic write each. */
struct word {
    enum { WORD_TRYING, WORD_BAD, WORD_DONE } kind;
    unsigned index;
    char reason[400];
};

static void say(const struct zy_attempt *a, const struct word *w) {
    if (wf_write_full(a->tell, w, sizeof *w) < 0)
        _exit(1);
}

/* Imports one module. False with the reason when it must not be preloaded. */
static bool import_one(const struct zy_attempt *a, PyObject *space, const char *module,
                       char *reason, size_t size) {
    struct wf_err err;
    struct zy_print *before = zy_print_take(a->output, a->input, &err);
    PyObject *name = PyUnicode_DecodeFSDefault(module);
    PyObject *looked = before && name
                           ? PyObject_CallFunctionObjArgs(zp_get(space, "load"), name, NULL)
                           : NULL;
    Py_XDECREF(name);
    bool good = false;
    if (before == NULL)
        wf_fmt(reason, size, "%s", err.text);
    else if (looked == NULL)
        zp_error_text(reason, size);
    else if (looked != Py_None)
        wf_fmt(reason, size, "looked at %s", PyBytes_AsString(looked));
    else
        good = !zy_print_differs(before, reason, size);
    Py_XDECREF(looked);
    free(before);
    return good;
}

/* In the attempt's own process: imports everything, or says which module must not be and ends. */
static void import_all(const struct zy_attempt *a, PyObject *space) {
    struct word w = { 0 };
    for (w.index = 0; w.index < a->count; w.index++) {
        w.kind = WORD_TRYING; /* should the import kill us, this is our last word */
        say(a, &w);
        if (!import_one(a, space, a->module[w.index], w.reason, sizeof w.reason)) {
            w.kind = WORD_BAD;
            say(a, &w);
            _exit(1);
        }
    }
    w.kind = WORD_DONE;
    say(a, &w);
}

/* The attempt's last word; how it died if it could not say. */
static struct word listen_to(int fd, pid_t pid) {
    struct word w = { 0 }, next;
    while (wf_read_full(fd, &next, sizeof next) == sizeof next) {
        w = next;
        if (w.kind != WORD_TRYING)
            return w;
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        wf_fmt(w.reason, sizeof w.reason, "killed by signal %d when imported", WTERMSIG(status));
    else
        wf_fmt(w.reason, sizeof w.reason, "exited with status %d when imported",
               WEXITSTATUS(status));
    w.kind = WORD_BAD;
    return w;
}

/* Splits the preload list (commas, spaces) into names owned by `a`. */
static int split_names(struct zy_attempt *a, struct wf_err *err) {
    const char *list = (const char *)zy.request.preload.data, *end = list + zy.request.preload.size;
    while (list < end) {
        size_t size = 0;
        while (list + size < end && strchr(", \t\n", list[size]) == NULL)
            size++;
        if (size > 0 && a->count == ZY_MODULES)
            return wf_err_msg(err, "more than %d modules to preload", ZY_MODULES);
        if (size > 0 && (a->module[a->count++] = strndup(list, size)) == NULL)
            return wf_err_sys(err, "malloc", "a module's name");
        list += size + 1;
    }
    return 0;
}

int zy_attempt_init(struct zy_attempt *a, struct wf_err *err) {
    *a = (struct zy_attempt){ .tell = -1 };
    a->output = wf_move_fd(memfd_create("warmfork-output", MFD_CLOEXEC), ZY_FD_BASE);
    a->input = wf_move_fd(memfd_create("warmfork-input", MFD_CLOEXEC), ZY_FD_BASE);
    if (a->output < 0 || a->input < 0 || wf_write_full(a->input, "\n", 1) < 0 ||
        lseek(a->input, 0, SEEK_SET) < 0)
        return wf_err_sys(err, "memfd_create", "to see what an import reads and writes");
    return split_names(a, err);
}

/* A number that equals the process's id may be just that number. */
static bool is_doubtful(const struct word *w) {
    return strstr(w->reason, "its process id") != NULL;
}

static void leave_out(struct zy_attempt *a, const struct word *w) {
    char text[600];
    wf_fmt(text, sizeof text, "preload %s: %s", a->module[w->index], w->reason);
    zy_tell(WF_NOTE, 2, text);
    free(a->module[w->index]);
    memmove(a->module + w->index, a->module + w->index + 1,
            (a->count - w->index - 1) * sizeof *a->module);
    a->count--;
    a->left_out++;
}

static void put_on(int fd, int target) {
    if (fd >= 0)
        dup2(fd, target);
}

#define WARMING_NICE 10

/* Imports must not slow down the program that runs cold meanwhile: they give way, where the
 * priority can be raised again afterwards. */
static void give_way(bool on) {
    if (zy.idle_reversible)
        setpriority(PRIO_PROCESS, 0, on && zy.nice < WARMING_NICE ? WARMING_NICE : zy.nice);
}

/* The streams of an attempt. What an earlier one wrote or read is not this one's doing. */
static void put_streams(const struct zy_attempt *a) {
    if (ftruncate(a->output, 0) < 0 || lseek(a->output, 0, SEEK_SET) < 0 ||
        lseek(a->input, 0, SEEK_SET) < 0)
        _exit(1);
    put_on(a->input, 0);
    put_on(a->output, 1);
    put_on(a->output, 2);
}

static void unblock(bool on) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(on ? SIG_UNBLOCK : SIG_BLOCK, &all, NULL);
}

/* Forks attempts until one succeeds: returns in that process, which is the zygote then. The
 * counting process ends. */
int zy_attempt_imports(struct zy_attempt *a, PyObject *space, struct wf_err *err) {
    const char *doubted = NULL;
    for (;;) {
        int pair[2];
        pid_t pid = 0;
        if (zy_given_up())
            _exit(0);
        if (pipe2(pair, O_CLOEXEC) < 0)
            return wf_err_sys(err, "pipe2", "an attempt to import");
        a->tell = wf_move_fd(pair[1], ZY_FD_BASE);
        pair[0] = wf_move_fd(pair[0], ZY_FD_BASE);
        switch (zy_fork(&pid, err)) {
        case ZY_FORK_FAILED:
            return -1;
        case ZY_CHILD:
            wf_close(&pair[0]);
            zy.zygote_pid = getpid();
            zy_tell_process();
            put_streams(a);
            give_way(true);
            unblock(true); /* an import may send itself signals, as in any program */
            import_all(a, space);
            wf_close(&a->tell);
            return 0;
        case ZY_PARENT:
            break;
        }
        wf_close(&a->tell);
        struct word last = listen_to(pair[0], pid);
        wf_close(&pair[0]);
        if (last.kind == WORD_DONE)
            _exit(0);
        if (is_doubtful(&last) && doubted != a->module[last.index])
            doubted = a->module[last.index]; /* another process has another id: ask one */
        else
            leave_out(a, &last);
        waitpid(pid, NULL, WNOHANG);
    }
}

void zy_attempt_done(struct zy_attempt *a) {
    unblock(false);
    give_way(false);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        put_on(null, i);
    wf_close(&null);
    wf_close(&a->output);
    wf_close(&a->input);
    for (unsigned i = 0; i < a->count; i++)
        free(a->module[i]);
    a->count = 0;
}
