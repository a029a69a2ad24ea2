#include "client/bounds.h"

#include "client/text.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESET_ON_FORK 0x40000000
#define LIMIT_DATA 2 /* RLIMIT_*: generic numbering */
#define LIMIT_AS 9
#define NO_LIMIT UINT64_MAX
#define TIMERS 3                /* real, virtual, profiling */
#define ALL_CHILDREN 0x40000000 /* __WALL */

struct kernel_sigaction { /* as rt_sigaction fills it in; only the first word matters here */
    uint64_t handler, rest[7];
};

static bool is_real_time(long policy) {
    policy &= ~RESET_ON_FORK;
    return policy == 1 || policy == 2 || policy == 6; /* FIFO, RR, DEADLINE */
}

static int get_limit(int which, struct wf_limit *ret, struct wf_err *err) {
    if (syscall(SYS_prlimit64, 0, which, NULL, ret) < 0)
        return wf_err_sys(err, "prlimit", NULL);
    return 0;
}

int wf_bounds_check(uint32_t *ret_filters, struct wf_err *err) {
    struct wf_limit space, data;
    int policy = 0;
    long sched = syscall(SYS_sched_getscheduler, 0);
    if (sched < 0)
        return wf_err_sys(err, "sched_getscheduler", NULL);
    if (get_limit(LIMIT_AS, &space, err) < 0 || get_limit(LIMIT_DATA, &data, err) < 0)
        return -1;
    const char *why = NULL;
    if (is_real_time(sched))
        why = "a real-time scheduling class";
    else if (space.soft != NO_LIMIT || data.soft != NO_LIMIT)
        why = "the address space is limited"; /* and what is preloaded takes room of it */
    else if (syscall(SYS_get_mempolicy, &policy, NULL, 0, NULL, 0) == 0 && policy != 0)
        why = "a memory policy";
    else if (wf_filters_get(ret_filters, err) < 0)
        return 1;
    if (why != NULL)
        wf_err_msg(err, "%s", why);
    return why != NULL;
}

/* Variables by which systemd names the process that a service is: sockets and watchdogs are for
 * that one alone, and so are the limits of its control group. */
static bool named_in(char *const *envp, int self) {
    static const char *const names[] = { "LISTEN_PID=", "SYSTEMD_EXEC_PID=", "WATCHDOG_PID=" };
    for (; *envp != NULL; envp++) {
        if ((*envp)[0] != 'L' && (*envp)[0] != 'S' && (*envp)[0] != 'W')
            continue;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            int pid = 0;
            if (!wf_text_starts(*envp, names[i]))
                continue;
            for (const char *c = *envp + strlen(names[i]); *c >= '0' && *c <= '9' && pid < 1 << 27;
                 c++)
                pid = pid * 10 + (*c - '0');
            if (pid == self)
                return true;
        }
    }
    return false;
}

/* An exec changes the program of a process, not its children or its alarms: a shell that has
 * started something in the background, `perl -e 'alarm 5; exec …'`. */
int wf_bounds_check_past(char *const *envp, struct wf_err *err) {
    const char *why = named_in(envp, getpid()) ? "a service whose process is named by its pid"
                                               : NULL;
    int reaps = 0;
    char info[128]; /* siginfo_t */
    if (syscall(SYS_waitid, P_ALL, 0, info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | ALL_CHILDREN,
                NULL) == 0)
        why = "this process has children already";
    for (int which = 0; which < TIMERS; which++) {
        int64_t timer[4] = { 0 }; /* struct itimerval */
        if (syscall(SYS_getitimer, which, timer) == 0 && (timer[2] != 0 || timer[3] != 0))
            why = "an interval timer or alarm has been set";
    }
    if (prctl(PR_GET_CHILD_SUBREAPER, (long)(uintptr_t)&reaps, 0L, 0L, 0L) == 0 && reaps)
        why = "this process is a subreaper";
    if (prctl(PR_GET_SECUREBITS, 0L, 0L, 0L, 0L) > 0)
        why = "securebits are set";
    if (why != NULL)
        wf_err_msg(err, "%s", why);
    return why != NULL;
}

/* Only ignored signals survive an exec; asking for each is several times cheaper than reading
 * /proc/self/status. */
static int collect_ignored(struct wf_request *r, struct wf_err *err) {
    struct kernel_sigaction action;
    r->sig_ignored = 0;
    for (int sig = 1; sig <= 64; sig++) {
        if (sig == SIGKILL || sig == SIGSTOP)
            continue;
        if (syscall(SYS_rt_sigaction, sig, NULL, &action, 8) < 0)
            return wf_err_sys(err, "rt_sigaction", NULL);
        if (action.handler == (uint64_t)(uintptr_t)SIG_IGN)
            r->sig_ignored |= 1ull << (sig - 1);
    }
    return 0;
}

static int collect_scheduling(struct wf_request *r, uint8_t cpus[WF_MAX_CPUS_BYTES],
                              struct wf_err *err) {
    long nice = syscall(SYS_getpriority, PRIO_PROCESS, 0);
    if (nice < 0)
        return wf_err_sys(err, "getpriority", NULL);
    long sched = syscall(SYS_sched_getscheduler, 0);
    if (sched < 0)
        return wf_err_sys(err, "sched_getscheduler", NULL);
    long ioprio = syscall(SYS_ioprio_get, 1, 0); /* IOPRIO_WHO_PROCESS */
    if (ioprio < 0)
        return wf_err_sys(err, "ioprio_get", NULL);
    if (wf_marks_get(&r->marks, err) < 0)
        return -1;
    long size = syscall(SYS_sched_getaffinity, 0, WF_MAX_CPUS_BYTES, cpus);
    if (size < 0)
        return wf_err_sys(err, "sched_getaffinity", NULL);
    r->nice = 20 - (int)nice; /* the kernel's own answer is never negative */
    r->sched = (int32_t)sched;
    r->ioprio = (int32_t)ioprio;
    r->cpus = (struct wf_span){ cpus, (uint32_t)size };
    return 0;
}

int wf_bounds_collect(struct wf_request *ret, int fd, uint8_t cpus[WF_MAX_CPUS_BYTES],
                      struct wf_err *err) {
    for (int i = 0; i < WF_LIMITS; i++)
        if (get_limit(i, &ret->limit[i], err) < 0)
            return -1;
    if (wf_rules_check(err) < 0 || collect_scheduling(ret, cpus, err) < 0 ||
        collect_ignored(ret, err) < 0 || wf_place_add_namespaces(&ret->place, fd, err) < 0)
        return -1;
    ret->bounded = true;
    return 0;
}
