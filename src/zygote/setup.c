/* Makes a worker the process that the caller would have had: named steps, in an order that matters.
 *
 * 1 descriptors: first, because everything below may open files of its own and must find the
 *   numbers settled
 * 2 directory: before path 0, which is relative to it
 * 3 environment: before anything of Python that may read it
 * 4 arguments: sys.argv, sys.orig_argv, sys.path[0]
 * 5 shadows: needs directory and path
 * 6 streams: after the descriptors and the environment
 * Then the bounds, which the client measures during all that:
 * 7 identity: umask, limits, niceness, scheduling, affinity; RLIMIT_NOFILE after step 1's dup2s
 * 8 signals: last; from here on a signal means what it would mean to the program */
#include "zygote/zygote.h"
#include "base/io.h"
#include "zygote/python.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

static int python_error(struct wf_err *err, const char *step) {
    char text[256];
    zp_error_text(text, sizeof text);
    return wf_err_msg(err, "%s: %s", step, text);
}

/* Usually a run of neighbours: the lowest numbers that were free. One call closes it then. */
static void close_received(struct zy_job *job) {
    bool run = job->nfds > 0;
    for (unsigned i = 1; i < job->nfds; i++)
        run = run && job->fds[i] == job->fds[i - 1] + 1;
    if (run)
        syscall(SYS_close_range, job->fds[0], job->fds[job->nfds - 1], 0);
    for (unsigned i = 0; i < job->nfds && !run; i++)
        close(job->fds[i]);
    job->nfds = 0;
}

/* Received descriptors lie anywhere; their targets may be where others of them (or our own) lie.
 * All that could be hit is first moved above the highest target. */
static int step_descriptors(struct zy_job *job, struct wf_err *err) {
    const struct wf_request *r = &job->request;
    unsigned count = r->fdnums.size / 4, next = 0;
    int highest = 2;
    for (unsigned i = 0; i < count; i++) {
        uint32_t n;
        memcpy(&n, r->fdnums.data + 4 * i, 4);
        highest = (int)n > highest ? (int)n : highest;
    }
    if (count > 0) {
        for (unsigned i = 0; i < job->nfds; i++)
            if (job->fds[i] <= highest &&
                (job->fds[i] = wf_move_fd(job->fds[i], highest + 1)) <= highest)
                return wf_err_sys(err, "fcntl", "F_DUPFD_CLOEXEC of a received descriptor");
        if (job->connection >= 0 && job->connection <= highest)
            job->connection = wf_move_fd(job->connection, highest + 1);
        for (int i = 0; i < WF_STARTED_FDS; i++)
            if (job->given[i] >= 0 && job->given[i] <= highest)
                job->given[i] = wf_move_fd(job->given[i], highest + 1);
    }
    for (int i = 0; i < 3; i++) {
        if (!((r->stdio >> i) & 1))
            close(i);
        else if (dup2(job->fds[next++], i) < 0)
            return wf_err_sys(err, "dup2", "a standard stream");
    }
    int cwd = job->fds[next++];
    if (fchdir(cwd) < 0)
        return wf_err_sys(err, "fchdir", "the caller's working directory");
    for (unsigned i = 0; i < count; i++) {
        uint32_t n;
        memcpy(&n, r->fdnums.data + 4 * i, 4);
        if (dup2(job->fds[next++], (int)n) < 0)
            return wf_err_sys(err, "dup2", "an inherited descriptor");
    }
    close_received(job);
    return 0;
}

static int step_identity(const struct zy_job *job, struct wf_err *err) {
    const struct wf_request *r = &job->request;
    umask(r->umask);
    for (int i = 0; i < WF_LIMITS; i++) {
        if (r->limit[i].soft == zy.limit[i].soft && r->limit[i].hard == zy.limit[i].hard)
            continue;
        struct rlimit limit = { r->limit[i].soft, r->limit[i].hard };
        if (setrlimit((__rlimit_resource_t)i, &limit) < 0)
            return wf_err_sys(err, "setrlimit", "a limit of the caller");
    }
    if (r->nice != zy.nice && setpriority(PRIO_PROCESS, 0, r->nice) < 0)
        return wf_err_sys(err, "setpriority", "the caller's niceness");
    if (r->sched != SCHED_OTHER) {
        struct sched_param param = { 0 };
        if (sched_setscheduler(0, r->sched, &param) < 0)
            return wf_err_sys(err, "sched_setscheduler", "the caller's class");
    }
    if (r->marks.oom_score_adj != zy.marks.oom_score_adj &&
        wf_oom_score_adj_set(r->marks.oom_score_adj) < 0)
        return wf_err_sys(err, "write", "/proc/self/oom_score_adj");
    if (r->ioprio != 0 && syscall(SYS_ioprio_set, 1, 0, r->ioprio) < 0)
        return wf_err_sys(err, "ioprio_set", "the caller's priority");
    if ((r->cpus.size != zy.cpus_size || memcmp(r->cpus.data, zy.cpus, zy.cpus_size) != 0) &&
        syscall(SYS_sched_setaffinity, 0, r->cpus.size, r->cpus.data) < 0)
        return wf_err_sys(err, "sched_setaffinity", "the caller's CPUs");
    return 0;
}

static int put_variable(const char *entry, const char *eq) {
    PyObject *key = PyBytes_FromStringAndSize(entry, eq - entry);
    PyObject *value = PyBytes_FromString(eq + 1);
    int failed = key == NULL || value == NULL || PyDict_SetItem(zp.environ_data, key, value) < 0;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return failed ? -1 : 0;
}

#define TAIL 16 /* entries at the end that may be others; more are put in anew, all of them */

/* Whether one of the entries in `list` before `end` has the name of `entry`, which ends at `eq`. */
static bool named_before(char *const *list, char *const *end, const char *entry, const char *eq) {
    for (; list < end; list++)
        if (strncmp(*list, entry, (size_t)(eq - entry) + 1) == 0)
            return true;
    return false;
}

static int drop_variable(const char *entry, const char *eq) {
    PyObject *key = PyBytes_FromStringAndSize(entry, eq - entry);
    int failed = key == NULL || PyDict_DelItem(zp.environ_data, key) < 0;
    Py_XDECREF(key);
    return failed ? -1 : 0;
}

static size_t count_of(char *const *list) {
    size_t count = 0;
    while (list[count] != NULL)
        count++;
    return count;
}

/* What os.environ has held since the rehearsal: the entries of the caller that the zygote was made
 * for, with what warming up has changed; NULL-terminated. */
static char **rehearsed;

static bool remember(char *const *envp) {
    size_t size = (count_of(envp) + 1) * sizeof *envp;
    char **room = realloc(rehearsed, size);
    if (room == NULL)
        return false;
    rehearsed = memcpy(room, envp, size);
    return true;
}

/* From where the names are others: what was there goes, what is there now comes, so that the order
 * is the caller's. `then` is at the rehearsal's entry. */
static int adjust_tail(char **envp, char **at, char *const *then) {
    if (count_of(at) > TAIL || count_of(then) > TAIL)
        return -1;
    for (; *then != NULL; then++) {
        const char *eq = strchr(*then, '=');
        if (eq == NULL || named_before(envp, at, *then, eq) || drop_variable(*then, eq) < 0)
            return -1;
    }
    for (; *at != NULL; at++) {
        const char *eq = strchr(*at, '=');
        if (eq == NULL || named_before(envp, at, *at, eq) || put_variable(*at, eq) < 0)
            return -1;
    }
    return 0;
}

/* Two environments of a user differ in a few values (_, SHLVL), and by what was put at the end
 * (env NAME=VALUE …): only these are set. False when it takes more, or something is odd; os.environ
 * is made anew then. */
static bool adjust_environment(const struct zy_job *job) {
    char *const *then = rehearsed;
    char **e = job->envp;
    for (; *e != NULL && *then != NULL; e++, then++) {
        const char *eq = strchr(*e, '=');
        if (strcmp(*e, *then) == 0)
            continue;
        if (eq == NULL || strncmp(*e, *then, (size_t)(eq - *e) + 1) != 0)
            break;
        if (named_before(job->envp, e, *e, eq)) /* of duplicates the first counts */
            return false;
        if (put_variable(*e, eq) < 0)
            break;
    }
    bool adjusted = !PyErr_Occurred() && adjust_tail(job->envp, e, then) == 0;
    PyErr_Clear();
    return adjusted;
}

/* C's environ points into the request, in the caller's order; os.environ is the same dict with the
 * same entries. */
int zy_setup_environment(struct zy_job *job, struct wf_err *err) {
    zy_changes_apply(job);
    environ = job->envp;
    if (zy.environ_rehearsed && !job->rehearsal &&
        (zy_inputs_same_environment(&job->request) || adjust_environment(job)))
        return 0; /* the rehearsal left it so */
    PyDict_Clear(zp.environ_data);
    for (char **e = job->envp; *e != NULL; e++) {
        const char *eq = strchr(*e, '=');
        if (eq == NULL)
            continue;
        PyObject *key = PyBytes_FromStringAndSize(*e, eq - *e);
        int failed = key == NULL;
        if (!failed && PyDict_GetItemWithError(zp.environ_data, key) == NULL) /* the first counts */
            failed = PyErr_Occurred() != NULL || put_variable(*e, eq) < 0;
        Py_XDECREF(key);
        if (failed)
            return python_error(err, "os.environ");
    }
    zy.environ_rehearsed = job->rehearsal && remember(job->envp);
    return 0;
}

static int set_list(const char *name, PyObject *list) {
    int failed = list == NULL || PyErr_Occurred() ||
                 PyDict_SetItemString(zp.sys_dict, name, list) < 0;
    Py_XDECREF(list);
    return failed ? -1 : 0;
}

static int append_fs(PyObject *list, const char *text) {
    PyObject *item = PyUnicode_DecodeFSDefault(text);
    int failed = item == NULL || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

/* What ps and /proc/self/{cmdline,environ} show: the kernel is told where the strings lie. Old
 * kernels and those without checkpoint support refuse; programs then show the zygote's. */
static void step_shown_arguments(struct zy_job *job) {
    static char arguments[1 << 16];
    const struct wf_request *r = &job->request;
    const char *first = job->argv[0], *rest = first + strlen(first) + 1;
    size_t size = r->argc > 1
                      ? (size_t)(job->argv[r->argc - 1] + strlen(job->argv[r->argc - 1]) + 1 - rest)
                      : 0;
    if (job->rehearsal || zy.mm.start_code == 0 || r->python.size + 1 + size > sizeof arguments)
        return;
    memcpy(arguments, r->python.data, r->python.size);
    arguments[r->python.size] = '\0';
    memcpy(arguments + r->python.size + 1, rest, size);
    struct prctl_mm_map map = zy.mm;
    map.brk = (uint64_t)(uintptr_t)sbrk(0);
    map.arg_start = (uint64_t)(uintptr_t)arguments;
    map.arg_end = map.arg_start + r->python.size + 1 + size;
    map.env_start = (uint64_t)(uintptr_t)(rest + size);
    map.env_end = (uint64_t)(uintptr_t)(r->strings.data + r->strings.size);
    map.auxv = NULL;
    map.auxv_size = 0;
    map.exe_fd = (uint32_t)-1;
    prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
}

void zy_setup_measure_mm(void) {
    char text[2048];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    unsigned long long field[53] = { 0 };
    wf_close(&fd);
    if (got <= 0)
        return;
    text[got] = '\0';
    const char *at = strrchr(text, ')'); /* the name may hold anything; field 3 follows it */
    for (int i = 3; at != NULL && i <= 51; i++)
        if ((at = strchr(at + 1, ' ')) != NULL)
            field[i] = strtoull(at + 1, NULL, 10);
    zy.mm = (struct prctl_mm_map){ .start_code = field[26],
                                   .end_code = field[27],
                                   .start_stack = field[28],
                                   .start_data = field[45],
                                   .end_data = field[46],
                                   .start_brk = field[47] };
}

static int step_arguments(struct zy_job *job, struct wf_err *err) {
    const struct wf_request *r = &job->request;
    PyObject *argv = PyList_New(0), *orig = PyList_New(0);
    if (argv == NULL || orig == NULL)
        return python_error(err, "sys.argv");
    const char *first = r->mode == WF_MODE_COMMAND  ? "-c"
                        : r->mode == WF_MODE_MODULE ? "-m"
                        : r->target < r->argc       ? job->argv[r->target]
                                                    : "";
    int failed = append_fs(argv, first);
    for (uint32_t i = r->target + 1; i < r->argc && !failed; i++)
        failed = append_fs(argv, job->argv[i]);
    char python[PATH_MAX];
    wf_fmt(python, sizeof python, "%.*s", (int)r->python.size, (const char *)r->python.data);
    failed = failed || append_fs(orig, python);
    for (uint32_t i = 1; i < r->argc && !failed; i++)
        failed = append_fs(orig, job->argv[i]);
    step_shown_arguments(job);
    if (!failed)
        zy_config_arguments(argv, orig);
    if (failed || set_list("argv", argv) < 0 || set_list("orig_argv", orig) < 0)
        return python_error(err, "sys.argv");
    return 0;
}

/* As _PyPathConfig_ComputeSysPath0 has it: the directory of the resolved script; '' for -c and
 * stdin; the working directory for -m. Not decided here for directories and zip files, which are an
 * entry themselves. */
static void find_path0(struct zy_job *job) {
    char full[PATH_MAX];
    job->has_path0 = !zp.safe_path;
    job->path0[0] = '\0';
    if (zp.safe_path)
        return;
    if (job->request.mode == WF_MODE_MODULE) {
        job->has_path0 = getcwd(job->path0, sizeof job->path0) != NULL;
        return;
    }
    const char *script = job->request.mode == WF_MODE_SCRIPT ? job->text
                         : job->request.mode == WF_MODE_STDIN &&
                                 job->request.target < job->request.argc
                             ? "-"
                             : NULL;
    if (script == NULL)
        return;
    if (realpath(script, full) != NULL)
        script = full;
    const char *slash = strrchr(script, '/');
    size_t size = slash == NULL ? 0 : slash == script ? 1 : (size_t)(slash - script);
    wf_fmt(job->path0, sizeof job->path0, "%.*s", (int)size, script);
}

static int step_path(struct zy_job *job, struct wf_err *err) {
    find_path0(job);
    int importer = job->request.mode == WF_MODE_SCRIPT ? zy_run_find_importer(job) : 0;
    if (importer < 0)
        return python_error(err, "PyImport_GetImporter");
    job->importer = importer > 0;
    bool any = job->importer || job->has_path0;
    PyObject *path0 = any ? PyUnicode_DecodeFSDefault(job->importer ? job->script : job->path0)
                          : NULL;
    /* From 3.13 on python compares with it whenever a module lacks a name. A zygote of 3.12 that
     * has none itself (-I, -P) does not know where an archive's would be. */
    if (!job->rehearsal && !zy_config_path0(path0) && zp.safe_path) {
        Py_XDECREF(path0);
        return wf_err_msg(err, "sys.path[0] of subinterpreters");
    }
    int failed = any && path0 == NULL;
    if (job->has_path0 && !job->importer && !failed) /* run.c inserts an importable path */
        failed = PyList_Insert(zp.path, 0, path0);
    Py_XDECREF(path0);
    return failed ? python_error(err, "sys.path") : 0;
}

/* Python knows a signal's disposition from when it started; both its table and the kernel's follow
 * the caller's. Python itself ignores SIGPIPE and SIGXFSZ and handles SIGINT, unless that was
 * ignored. */
static int step_signals(const struct zy_job *job, struct wf_err *err) {
    uint64_t ignored = job->request.sig_ignored;
    for (int sig = 1; sig < 65 && ignored >> (sig - 1); sig++) {
        if (!((ignored >> (sig - 1)) & 1) || sig == SIGPIPE || sig == SIGXFSZ || sig == SIGKILL ||
            sig == SIGSTOP)
            continue;
        if (sig >= 32 && sig < SIGRTMIN) { /* libc's own: it lets nobody touch them, but they can be
                                              inherited so */
            const unsigned long action[4] = { (unsigned long)SIG_IGN };
            syscall(SYS_rt_sigaction, sig, action, NULL, sizeof ignored);
            continue;
        }
        PyObject *done = PyObject_CallFunction(zp.signal_signal, "iO", sig, zp.sig_ign);
        if (done == NULL)
            return python_error(err, "signal.signal");
        Py_DECREF(done);
    }
    uint64_t mask = job->rehearsal ? UINT64_MAX : job->request.sig_blocked;
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask) < 0)
        return wf_err_sys(err, "rt_sigprocmask", "the caller's mask");
    return 0;
}

unsigned zy_setup(struct zy_job *job, struct wf_err *err) {
    char name[256];
    if (step_descriptors(job, err) < 0)
        return WF_WHY_SETUP;
    if (zy_setup_environment(job, err) < 0 || step_arguments(job, err) < 0 ||
        step_path(job, err) < 0 || zy_noted_renew(err) < 0)
        return WF_WHY_SETUP;
    /* The rehearsal is in "/", where a module named `lib` would find its double. */
    if (!job->rehearsal && PyDict_Size(zp.modules) > PyDict_Size(zp.bare_modules) &&
        zy_shadowed(job, zp.modules, name, sizeof name))
        return wf_err_msg(err, "%s/%s hides a preloaded module", job->path0, name), WF_WHY_SHADOW;
    if (zy_runs_preloaded(job))
        return wf_err_msg(err, "%s is preloaded, and to be run", job->text), WF_WHY_SHADOW;
    if (zy_stdio_take(job) < 0)
        return python_error(err, "sys.stdout"), WF_WHY_SETUP;
    return 0;
}

unsigned zy_setup_bounds(struct zy_job *job, struct wf_err *err) {
    if (!job->rehearsal && step_identity(job, err) < 0)
        return WF_WHY_SETUP;
    return step_signals(job, err) < 0 ? WF_WHY_SETUP : 0;
}

void zy_forget_path(const struct zy_job *job) {
    PyObject *cache = zp_get(zp.sys_dict, "path_importer_cache");
    if (cache != NULL && zp_get(cache, job->script) != NULL &&
        PyDict_DelItemString(cache, job->script) < 0)
        PyErr_Clear();
    if (job->has_path0 && PySequence_DelItem(zp.path, 0) < 0)
        PyErr_Clear();
}
