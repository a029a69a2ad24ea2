#include "client/spawn.h"

#include "base/cleanup.h"
#include "client/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOCK_FD 3
#define REPORT_FD 4
#define CAPABILITY(n) (1ull << (n))
#define CAP_NICE CAPABILITY(23)
#define CAP_RESOURCE CAPABILITY(24)
#define NO_LIMIT UINT64_MAX
#define STACK_SIZE (8ull << 20)
#define FILES_WANTED (1ull << 19)

#ifndef __WALL
#define __WALL 0x40000000
#endif

enum {
    LIMIT_CPU,
    LIMIT_FSIZE,
    LIMIT_DATA,
    LIMIT_STACK,
    LIMIT_CORE,
    LIMIT_RSS,
    LIMIT_NPROC,
    LIMIT_NOFILE,
    LIMIT_MEMLOCK,
    LIMIT_AS,
    LIMIT_LOCKS,
    LIMIT_SIGPENDING,
    LIMIT_MSGQUEUE,
    LIMIT_NICE,
    LIMIT_RTPRIO,
    LIMIT_RTTIME
};

/* Limits that are normally off, and would sooner or later hit the daemon or its zygotes. */
static const uint8_t open_limits[] = { LIMIT_CPU, LIMIT_FSIZE, LIMIT_DATA,  LIMIT_RSS,
                                       LIMIT_AS,  LIMIT_LOCKS, LIMIT_RTTIME };

const char *wf_spawn_unwise(const struct wf_context *ctx, const struct wf_collected *c) {
    const struct wf_request *r = &c->request;
    uint64_t caps = ctx->place.caps[0];
    if (!(caps & CAP_NICE) && r->nice > 0)
        return "a daemon started from here would stay nice";
    if (!(caps & CAP_NICE) && r->sched == 5) /* SCHED_IDLE */
        return "a daemon started from here would stay idle-scheduled";
    if (!(caps & CAP_RESOURCE))
        for (size_t i = 0; i < sizeof open_limits; i++)
            if (r->limit[open_limits[i]].hard != NO_LIMIT)
                return "a daemon started from here would keep a resource limit";
    return NULL;
}

static void set_limit(int which, uint64_t soft, uint64_t hard) {
    const uint64_t value[2] = { soft < hard ? soft : hard, hard };
    syscall(SYS_prlimit64, 0, which, value, NULL);
}

/* With the privilege all hard limits go up, else soft ones to their hard ones. A failure leaves a
 * limit as it is: the worker compares, and refuses what it cannot reach. */
static void lift_limits(void) {
    for (int which = 0; which < WF_LIMITS; which++) {
        uint64_t now[2];
        if (which == LIMIT_MSGQUEUE || which == LIMIT_NICE || which == LIMIT_RTPRIO ||
            syscall(SYS_prlimit64, 0, which, NULL, now) < 0)
            continue;
        if (which == LIMIT_NOFILE)
            set_limit(which, now[0], now[1] > FILES_WANTED ? now[1] : FILES_WANTED);
        else if (now[1] != NO_LIMIT)
            set_limit(which, now[0], NO_LIMIT);
    }
    for (size_t i = 0; i <= sizeof open_limits; i++) {
        uint64_t now[2];
        int which = i < sizeof open_limits ? open_limits[i] : LIMIT_NOFILE;
        if (syscall(SYS_prlimit64, 0, which, NULL, now) == 0 && now[0] != now[1])
            set_limit(which, now[1], now[1]);
    }
    uint64_t stack[2];
    if (syscall(SYS_prlimit64, 0, LIMIT_STACK, NULL, stack) == 0)
        set_limit(LIMIT_STACK, STACK_SIZE, stack[1]);
}

static void reset_scheduling(void) {
    const struct {
        int priority;
    } normal = { 0 };
    uint8_t cpus[WF_MAX_CPUS_BYTES];
    memset(cpus, 0xff, sizeof cpus);
    syscall(SYS_sched_setaffinity, 0, sizeof cpus, cpus);
    syscall(SYS_sched_setscheduler, 0, 0, &normal);
    syscall(SYS_setpriority, PRIO_PROCESS, 0, 0);
    syscall(SYS_ioprio_set, 1, 0, 0);
    wf_oom_score_adj_set(0); /* as near as we may */
}

static void reset_signals(void) {
    const uint64_t none = 0, action[8] = { 0 };
    for (int sig = 1; sig <= 64; sig++)
        syscall(SYS_rt_sigaction, sig, action, NULL, sizeof none);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

/* 0 to 2 on /dev/null, 3 the lock, 4 the report pipe (close-on-exec), nothing else. */
static int arrange_descriptors(int lock, int report) {
    int null = openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -1;
    /* First out of the way of 0 to 4, then to their places. */
    null = fcntl(null, F_DUPFD_CLOEXEC, 5);
    lock = fcntl(lock, F_DUPFD_CLOEXEC, 5);
    report = fcntl(report, F_DUPFD_CLOEXEC, 5);
    if (null < 0 || lock < 0 || report < 0)
        return -1;
    for (int fd = 0; fd < 3; fd++)
        if (dup2(null, fd) < 0)
            return -1;
    if (dup2(lock, LOCK_FD) < 0 || dup2(report, REPORT_FD) < 0 ||
        fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    return (int)syscall(SYS_close_range, REPORT_FD + 1, ~0u, 0);
}

struct report {
    int pid, code; /* code 0: about to be executed; else errno of a failure */
};

/* In the grandchild: between fork and exec of what may be a threaded program, so system calls only.
 */
static _Noreturn void become_daemon(const char *path, char *const *envp, int lock, int report) {
    char *const argv[] = { (char *)"warmforkd", NULL };
    struct report line = { .pid = getpid() };
    int fd = report;
    setsid();
    if (arrange_descriptors(lock, report) == 0) {
        fd = REPORT_FD;
        reset_signals();
        reset_scheduling();
        lift_limits();
        umask(077);
        wf_write_full(fd, &line, sizeof line);
        if (chdir("/") == 0)
            execve(path, argv, envp);
    }
    line.code = errno != 0 ? errno : EIO;
    wf_write_full(fd, &line, sizeof line);
    _exit(127);
}

int wf_spawn_fork(void) { return (int)syscall(SYS_clone, 0, 0, 0, 0, 0); }

/* The caller's environment for the daemon: without what concerns the caller's own dynamic linking
 * and allocation, which zygotes get with each request, and with the number of the lock. A mapping
 * of *ret_size bytes, or NULL. */
static char **daemon_environment(char *const *envp, size_t *ret_size) {
    size_t count = 0, at = 0;
    while (envp[count] != NULL)
        count++;
    *ret_size = (count + 2) * sizeof *envp;
    char **env = mmap(NULL, *ret_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (env == MAP_FAILED)
        return NULL;
    for (; *envp != NULL; envp++)
        if (!wf_text_starts(*envp, "LD_") && !wf_text_starts(*envp, "GLIBC_TUNABLES=") &&
            !wf_text_starts(*envp, "MALLOC_") && !wf_text_starts(*envp, "WARMFORK_LOCK_FD="))
            env[at++] = *envp;
    env[at++] = (char *)"WARMFORK_LOCK_FD=3";
    env[at] = NULL;
    return env;
}

static int find_daemon(char *const *envp, char ret_path[WF_PATH_ROOM], struct wf_err *err) {
    static const char name[] = "/warmforkd";
    if (wf_python_bindir(ret_path, err) == 0 && strlen(ret_path) + sizeof name <= WF_PATH_ROOM) {
        memcpy(ret_path + strlen(ret_path), name, sizeof name);
        if (faccessat(AT_FDCWD, ret_path, X_OK, 0) == 0)
            return 0;
    }
    return wf_python_find(name + 1, envp, ret_path, err);
}

/* Reads what the grandchild reports: its pid, then either the end of the pipe (it was executed) or
 * an error. */
static int read_report(int fd, const char *path, int *ret_pidfd, struct wf_err *err) {
    struct report line = { 0 }, failure = { 0 };
    if (wf_read_full(fd, &line, sizeof line) != sizeof line)
        return wf_err_msg(err, "fork for %s: the child ended at once", path);
    if (line.code == 0 && wf_read_full(fd, &failure, sizeof failure) == sizeof failure)
        line = failure;
    if (line.code != 0) {
        errno = line.code;
        return wf_err_sys(err, "execve", path);
    }
    *ret_pidfd = (int)syscall(SYS_pidfd_open, line.pid, 0);
    return 0;
}

int wf_spawn_daemon(char *const *envp, int lock, int *ret_pidfd, struct wf_err *err) {
    char path[WF_PATH_ROOM];
    int ends[2], status;
    size_t env_size;
    if (find_daemon(envp, path, err) < 0)
        return -1;
    char **env = daemon_environment(envp, &env_size);
    if (env == NULL)
        return wf_err_sys(err, "mmap", "environment of the daemon");
    int result = -1;
    if (pipe2(ends, O_CLOEXEC) < 0) {
        wf_err_sys(err, "pipe2", NULL);
    } else {
        int child = wf_spawn_fork();
        if (child == 0) {
            int daemon = wf_spawn_fork();
            if (daemon == 0)
                become_daemon(path, env, lock, ends[1]);
            _exit(0);
        }
        if (child < 0)
            wf_err_sys(err, "fork", path);
        wf_close(&ends[1]);
        while (child > 0 && waitpid(child, &status, __WALL) < 0 && errno == EINTR)
            ;
        if (child > 0)
            result = read_report(ends[0], path, ret_pidfd, err);
        wf_close(&ends[0]);
    }
    munmap(env, env_size);
    return result;
}
