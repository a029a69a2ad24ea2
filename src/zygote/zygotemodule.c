/* The extension module: glue between the interpreter's start and the zygote's loop. Built for the
 * stable ABI. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include "base/io.h"
#include "base/rundir.h"
#include "channel/channel.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LAUNCH_FD 3 /* where the daemon puts the first control socket */
#define LAUNCH_MS 60000

PyMODINIT_FUNC PyInit__zygote(void);

/* All signals blocked; children and termination arrive on a descriptor. */
static int open_signals(struct wf_err *err) {
    sigset_t all, some;
    sigfillset(&all);
    sigemptyset(&some);
    sigaddset(&some, SIGCHLD);
    sigaddset(&some, SIGTERM);
    sigprocmask(SIG_SETMASK, &all, NULL);
    zy.signals = wf_move_fd(signalfd(-1, &some, SFD_CLOEXEC | SFD_NONBLOCK), ZY_FD_BASE);
    return zy.signals < 0 ? wf_err_sys(err, "signalfd", "SIGCHLD") : 0;
}

static int open_shared(struct wf_err *err) {
    if (zy.shared != NULL) /* of the base zygote that this candidate was forked from */
        munmap(zy.shared, sizeof *zy.shared);
    zy.shared = mmap(NULL, sizeof *zy.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                     -1, 0);
    if (zy.shared == MAP_FAILED)
        return wf_err_sys(err, "mmap", "the page shared with workers");
    for (int i = 0; i < 3; i++)
        zy_stdio_measure(i, &zy.shared->kinds[i]);
    return 0;
}

/* Can an unprivileged process leave SCHED_IDLE again? Depends on RLIMIT_NICE; tried on this thread.
 */
static bool idle_reversible(void) {
    struct sched_param param = { 0 };
    struct rlimit limit;
    if (geteuid() != 0 && (getrlimit(RLIMIT_NICE, &limit) < 0 || limit.rlim_cur < 20))
        return false; /* trying could leave us idle for good */
    return sched_setscheduler(0, SCHED_IDLE, &param) == 0 &&
           sched_setscheduler(0, SCHED_OTHER, &param) == 0;
}

static int measure_self(struct wf_err *err) {
    if (wf_place_get(&zy.place, err) < 0 || wf_filters_get(&zy.marks.filters, err) < 0 ||
        wf_rules_check(err) < 0)
        return -1;
    for (int i = 0; i < WF_LIMITS; i++) {
        struct rlimit limit;
        if (getrlimit((__rlimit_resource_t)i, &limit) < 0)
            return wf_err_sys(err, "getrlimit", "own limits");
        zy.limit[i] = (struct wf_limit){ limit.rlim_cur, limit.rlim_max };
    }
    errno = 0;
    zy.nice = getpriority(PRIO_PROCESS, 0);
    wf_marks_get(&zy.marks, NULL);
    long got = syscall(SYS_sched_getaffinity, 0, sizeof zy.cpus, zy.cpus);
    zy.cpus_size = got > 0 ? (unsigned)got : 0;
    zy.idle_reversible = idle_reversible();
    zy.opened = zy.both = -1;
    zy_setup_measure_mm();
    return 0;
}

static const char *request_variable(void *arg, const char *name) {
    const struct wf_request *r = arg;
    const char *s = (const char *)r->strings.data;
    size_t size = strlen(name);
    for (uint32_t i = 0; i < r->argc + r->envc; i++, s += strlen(s) + 1)
        if (i >= r->argc && strncmp(s, name, size) == 0 && s[size] == '=')
            return s + size + 1;
    return NULL;
}

static void find_libdir(void) {
    Dl_info info;
    if (dladdr((void *)(uintptr_t)PyInit__zygote, &info) && info.dli_fname != NULL) {
        const char *slash = strrchr(info.dli_fname, '/');
        wf_fmt(zy.libdir, sizeof zy.libdir, "%.*s", slash ? (int)(slash - info.dli_fname) : 1,
               slash ? info.dli_fname : ".");
    }
}

/* Waits for the daemon's first message: the request that this interpreter was started for. */
static int first_request(struct wf_err *err) {
    static struct wf_message m;
    int launch = wf_move_fd(LAUNCH_FD, ZY_FD_BASE);
    int got = wf_channel_receive(launch, &m, NULL, 0, LAUNCH_MS, err);
    wf_close(&launch);
    if (got <= 0)
        return got < 0 ? -1 : wf_err_msg(err, "the daemon closed the launch socket");
    if (m.header.type != WF_SPAWN)
        return wf_err_msg(err, "message %u instead of WF_SPAWN", (unsigned)m.header.type);
    int failed = zy_adopt_request(&m, err);
    wf_message_done(&m);
    return failed;
}

static void forget_stderr(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0)
        dup2(null, 2);
    wf_close(&null);
}

/* The daemon says when it started python: boot.py EXTENSION MICROSECONDS. */
static void read_launch_time(void) {
    PyObject *argv = zp_get(zp.sys_dict, "argv");
    PyObject *time = argv && PyList_Size(argv) > 2 ? PyNumber_Long(PyList_GetItem(argv, 2)) : NULL;
    zy.warming_since_us = time ? PyLong_AsLongLong(time) : 0;
    Py_XDECREF(time);
    PyErr_Clear();
}

/* sitecustomize and its like, or python itself because of them: each program is to print that. */
static bool has_printed(void) {
    PyObject *out = zp_get(zp.sys_dict, "stdout");
    PyObject *done = out ? PyObject_CallMethod(out, "flush", NULL) : NULL;
    Py_XDECREF(done);
    PyErr_Clear();
    return zy_observed_calls("wf_observe_printed") > 0;
}

static int start_base(struct wf_err *err) {
    zy.base = true;
    zy.zygote_pid = getpid();
    find_libdir();
    int failed = zp_init() < 0;
    if (!failed) {
        read_launch_time();
        zy_config_find();
    }
    if (failed || zp_forget_boot() < 0 || zy_stdio_init() < 0) {
        char text[256];
        zp_error_text(text, sizeof text);
        first_request(err); /* so that there is somebody to tell */
        return wf_err_msg(err, "start: %s", text);
    }
    bool printed = has_printed();
    wf_fmt(zy.version, sizeof zy.version, "%.*s", (int)strcspn(Py_GetVersion(), " "),
           Py_GetVersion());
    if (first_request(err) < 0 || open_signals(err) < 0 || measure_self(err) < 0 ||
        open_shared(err) < 0)
        return -1;
    if (printed)
        return wf_err_msg(err, "python prints something when it starts");
    if (memcmp(&zy.place, &zy.request.place, sizeof zy.place) != 0)
        return wf_err_msg(
            err, "the request comes from another place (ids, namespaces, root, capabilities)");
    return zy_warmup_base(err);
}

static int start_candidate(struct wf_err *err) {
    if (open_shared(err) < 0)
        return -1;
    return zy_warmup_preload(err);
}

/* The last look before anything is forked for a program. */
static int check_safe(struct wf_err *err) {
    char reason[400];
    return zy_hazards(reason, sizeof reason) ? wf_err_msg(err, "unsafe to fork: %s", reason) : 0;
}

static int open_routes(struct wf_err *err) {
    if (wf_rundir_path(request_variable, &zy.request, zy.rundir, err) < 0)
        return -1;
    forget_stderr();
    if (zy_given_up())
        return wf_err_msg(err, "given up before it was ready");
    return zy_open(err);
}

/* Called as sys.excepthook, from C, with no Python frame below. Never returns to Python. */
static PyObject *serve(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    (void)args, (void)nargs;
    struct wf_err err = { 0 };
    zp.excepthook = PyObject_GetAttrString(self, "excepthook");
    PyErr_Clear();
    Py_LeaveRecursiveCall(); /* calling us took one level, which programs must have */
    int failed = start_base(&err) < 0 || check_safe(&err) < 0 || open_routes(&err) < 0;
    for (;;) {
        if (failed) {
            zy_tell(WF_FAILED, zy.failed_why ? zy.failed_why : 100, err.text);
            _exit(1);
        }
        if (zy_loop())
            zy_worker_main(zy.slot);
        failed = start_candidate(&err) < 0 || check_safe(&err) < 0 || open_routes(&err) < 0;
    }
}

/* Huge-page arenas for whoever measures them without a zygote (bench/). */
static PyObject *heap_setup(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    zy_heap_init();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    { "serve", (PyCFunction)(void (*)(void))serve, METH_FASTCALL,
      "The zygote's life, as sys.excepthook." },
    { "heap_setup", heap_setup, METH_NOARGS, "Puts python's arenas on huge pages." },
    { NULL, NULL, 0, NULL },
};

static int start(PyObject *module) {
    (void)module;
    zy = (struct zygote){ .control = -1,
                          .ctl_listen = -1,
                          .listen = -1,
                          .signals = -1,
                          .wake = -1,
                          .refill = -1,
                          .watch = -1 };
    for (size_t i = 0; i < sizeof zy.ctl / sizeof *zy.ctl; i++)
        zy.ctl[i] = -1;
    return 0;
}

static PyModuleDef_Slot slots[] = { { Py_mod_exec, (void *)(uintptr_t)start }, { 0, NULL } };

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "warmfork._zygote",
    "Private: see docs/design.md.",
    0,
    methods,
    slots,
    NULL,
    NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__zygote(void) { return PyModuleDef_Init(&definition); }
