/* Does a request suit this zygote? Nothing is touched here. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include "base/dirent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SIGNALS_WANTED 16 /* to be queued at once */

/* Whether the client can receive what comes with WF_STARTED (beside what it has sent it has the
 * connection open), and the notices that follow. */
static bool has_room(const struct wf_request *r) {
    unsigned open = (unsigned)wf_request_nfds(WF_RUN, r) + 1;
    return r->limit[RLIMIT_NOFILE].soft >= open + WF_STARTED_FDS &&
           r->limit[RLIMIT_SIGPENDING].soft >= SIGNALS_WANTED;
}

/* Only what cannot be reached from here: soft limits and lower hard limits can. */
static unsigned suits_limits(const struct wf_request *r, struct wf_err *err) {
    for (unsigned i = 0; i < WF_LIMITS; i++) {
        if (r->limit[i].hard > zy.limit[i].hard && zy.place.uid[1] != 0) {
            wf_err_msg(err, "hard limit %u is higher than the zygote's", i);
            return WF_WHY_LIMITS;
        }
    }
    /* What is preloaded takes room that the program would have had under such a limit. */
    if (r->limit[RLIMIT_AS].soft != UINT64_MAX || r->limit[RLIMIT_DATA].soft != UINT64_MAX) {
        wf_err_msg(err, "the address space is limited");
        return WF_WHY_LIMITS;
    }
    if (!has_room(r)) {
        wf_err_msg(err, "too few descriptors, or signals that may be queued");
        return WF_WHY_LIMITS;
    }
    if (r->nice < zy.nice && zy.place.uid[1] != 0) {
        wf_err_msg(err, "nice value %d is below the zygote's", (int)r->nice);
        return WF_WHY_LIMITS;
    }
    if (r->marks.oom_score_adj < zy.marks.oom_score_adj && zy.place.uid[1] != 0) {
        wf_err_msg(err, "oom_score_adj %d is below the zygote's", (int)r->marks.oom_score_adj);
        return WF_WHY_LIMITS;
    }
    if (r->sched != SCHED_OTHER && r->sched != SCHED_BATCH && r->sched != SCHED_IDLE) {
        wf_err_msg(err, "scheduling class %d", (int)r->sched);
        return WF_WHY_LIMITS;
    }
    return 0;
}

/* A script is a regular file or a directory; what cannot be opened gets python's own message from
 * us. */
static unsigned suits_program(const struct zy_job *job, struct wf_err *err) {
    unsigned first = 0;
    for (unsigned i = 0; i < 3; i++)
        first += (job->request.stdio >> i) & 1;
    if (job->request.mode == WF_MODE_STDIN) {
        struct zy_stdkind kind;
        if (!(job->request.stdio & 1))
            return wf_err_msg(err, "the program is on a closed stdin"), WF_WHY_PROGRAM;
        zy_stdio_measure(job->fds[0], &kind);
        return kind.tty ? (wf_err_msg(err, "interactive"), WF_WHY_PROGRAM) : 0;
    }
    if (job->request.mode != WF_MODE_SCRIPT)
        return 0;
    struct stat st;
    if (fstatat(job->fds[first], job->text, &st, 0) == 0 && !S_ISREG(st.st_mode) &&
        !S_ISDIR(st.st_mode))
        return wf_err_msg(err, "%s is neither a file nor a directory", job->text), WF_WHY_PROGRAM;
    size_t size = strlen(job->text);
    if (size >= 4 && strcmp(job->text + size - 4, ".pyc") == 0)
        return wf_err_msg(err, "the program is a .pyc file"), WF_WHY_PROGRAM;
    return 0;
}

unsigned zy_suits(struct zy_job *job, struct wf_err *err) {
    const struct wf_request *r = &job->request;
    const char *name;
    if (memcmp(r->key, zy.key, WF_KEY_SIZE) != 0)
        return wf_err_msg(err, "another context key"), WF_WHY_KEY;
    if (zy_watch_dirty())
        return wf_err_msg(err, "a watched directory has changed"), WF_WHY_STALE;
    if (!zy_inputs_match(r, &name))
        return wf_err_msg(err, "environment: %s differs", name), WF_WHY_INPUTS;
    unsigned stdio_fds = 0;
    for (unsigned i = 0; i < 3; i++) {
        if (!((r->stdio >> i) & 1))
            continue;
        zy_stdio_measure(job->fds[stdio_fds++], &job->kinds[i]);
        if (job->kinds[i].type == S_IFDIR || job->kinds[i].type == 0)
            return wf_err_msg(err, "descriptor %u is a directory or unreadable", i), WF_WHY_PROGRAM;
    }
    if (!zy_here_match(job->fds[stdio_fds], &name))
        return wf_err_msg(err, "working directory: not as at warm-up: %s", name), WF_WHY_INPUTS;
    return suits_program(job, err);
}

unsigned zy_suits_bounds(const struct wf_request *r, struct wf_err *err) {
    if (memcmp(&r->place, &zy.place, sizeof zy.place) != 0)
        return wf_err_msg(err, "other ids, namespaces, root or capabilities"), WF_WHY_PLACE;
    if (r->marks.loginuid != zy.marks.loginuid)
        return wf_err_msg(err, "another loginuid"), WF_WHY_PLACE;
    if (r->marks.filters != zy.marks.filters)
        return wf_err_msg(err, "other seccomp filters"), WF_WHY_PLACE;
    return suits_limits(r, err);
}

/* Whether an import might find a module of the same name there: the name up to the first dot.
 * Without a dot it must be a package; what a link leads to can change without the directory that it
 * is in. */
static bool hides(const struct wf_dirent *d, PyObject *modules) {
    const char *name = d->name;
    size_t size = strcspn(name, ".");
    bool directory = d->type == DT_DIR || d->type == DT_LNK || d->type == DT_UNKNOWN;
    if (size == 0 || (name[size] == '\0' && !directory) ||
        (name[size] == '.' && strcmp(name + size, ".py") != 0 && strcmp(name + size, ".pyc") != 0 &&
         strstr(name + size, ".so") == NULL))
        return false;
    PyObject *module = PyUnicode_DecodeFSDefaultAndSize(name, (Py_ssize_t)size);
    bool found = module != NULL && PyDict_GetItemWithError(modules, module) != NULL &&
                 PyDict_GetItemWithError(zp.bare_modules, module) == NULL;
    Py_XDECREF(module);
    PyErr_Clear();
    return found;
}

/* Directories found to hide nothing, by what changes with their entries. One that changed within
 * the last seconds is not remembered: its stamp could stay the same through another change. Racing
 * writers cost a listing, never an answer: an entry is taken only when all of it agrees. */
#define SETTLED_SECONDS 2

static uint64_t innocence(const struct stat *st) {
    uint64_t h = 0x9e3779b97f4a7c15u;
    const uint64_t part[] = { st->st_dev,
                              st->st_ino,
                              (uint64_t)st->st_mtim.tv_sec,
                              (uint64_t)st->st_mtim.tv_nsec,
                              (uint64_t)st->st_ctim.tv_sec,
                              (uint64_t)st->st_ctim.tv_nsec };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        h = (h ^ part[i]) * 0xff51afd7ed558ccdu, h ^= h >> 32;
    return h | 1;
}

static bool is_innocent(uint64_t mark) {
    return atomic_load(&zy.shared->innocent[mark % ZY_INNOCENT]) == mark;
}

static void note_innocent(const struct stat *st, uint64_t mark) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (st->st_mtim.tv_sec + SETTLED_SECONDS < now.tv_sec &&
        st->st_ctim.tv_sec + SETTLED_SECONDS < now.tv_sec)
        atomic_store(&zy.shared->innocent[mark % ZY_INNOCENT], mark);
}

bool zy_shadowed(const struct zy_job *job, PyObject *modules, char *ret_name, size_t size) {
    _Alignas(8) static char buffer[32768];
    if (!job->has_path0 || job->importer)
        return false;
    struct stat st;
    const char *path = job->path0[0] ? job->path0 : ".";
    if (stat(path, &st) < 0)
        return false; /* python could not list it either */
    uint64_t mark = innocence(&st) ^ ((uint64_t)(modules == zp.hidden) << 1);
    if (is_innocent(mark))
        return false;
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return false;
    bool found = false;
    long got;
    while (!found && (got = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < got && !found;) {
            const struct wf_dirent *d = (const void *)(buffer + at);
            found = hides(d, modules);
            if (found)
                wf_fmt(ret_name, size, "%s", d->name);
            at += d->size;
        }
    }
    close(dir);
    if (!found)
        note_innocent(&st, mark);
    return found;
}

static bool is_preloaded(const char *name) {
    return zp_get(zp.modules, name) != NULL && zp_get(zp.bare_modules, name) == NULL;
}

/* runpy imports the package around a module and then warns of one that is in sys.modules already,
 * for it runs twice then. Of a package it runs __main__. */
bool zy_runs_preloaded(const struct zy_job *job) {
    char name[PATH_MAX];
    if (job->request.mode != WF_MODE_MODULE || job->text == NULL)
        return false;
    PyObject *module = zp_get(zp.modules, job->text);
    if (module != NULL && !PyObject_HasAttrString(module, "__path__"))
        return strchr(job->text, '.') != NULL && is_preloaded(job->text);
    wf_fmt(name, sizeof name, "%s.__main__", job->text);
    return is_preloaded(name);
}
