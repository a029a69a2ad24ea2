#include "client/signals.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALL_SIGNALS (~0ull)
#define BIT(sig) (1ull << ((sig) - 1))

/* The kernel's own calls: the libc's refuse to block or reset the signals that it uses for itself
 * (32 to 34). */
static void set_mask(int how, uint64_t mask, uint64_t *ret_old) {
    syscall(SYS_rt_sigprocmask, how, &mask, ret_old, sizeof mask);
}

static void set_default(int sig) {
    const uint64_t action[8] = { 0 }; /* struct kernel_sigaction: SIG_DFL, no flags, no mask */
    syscall(SYS_rt_sigaction, sig, action, NULL, sizeof(uint64_t));
}

uint64_t wf_signals_block(void) {
    uint64_t old = 0;
    set_mask(SIG_SETMASK, ALL_SIGNALS, &old);
    return old;
}

void wf_signals_restore(uint64_t mask) { set_mask(SIG_SETMASK, mask, NULL); }

int wf_signals_open(int *ret_fd, struct wf_err *err) {
    const uint64_t mask = ALL_SIGNALS;
    long fd = syscall(SYS_signalfd4, -1, &mask, sizeof mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return wf_err_sys(err, "signalfd", NULL);
    *ret_fd = (int)fd;
    return 0;
}

/* The mask after `label` in the text of /proc/PID/status. */
static uint64_t status_mask(const char *text, const char *label) {
    uint64_t mask = 0;
    const char *line = strstr(text, label);
    if (line == NULL)
        return 0;
    for (line += strlen(label); *line == ' ' || *line == '\t'; line++)
        ;
    for (;; line++) {
        if (*line >= '0' && *line <= '9')
            mask = mask << 4 | (uint64_t)(*line - '0');
        else if (*line >= 'a' && *line <= 'f')
            mask = mask << 4 | (uint64_t)(*line - 'a' + 10);
        else
            return mask;
    }
}

bool wf_signals_would_act(const struct wf_run *run, int sig) {
    char path[48], text[4096];
    wf_fmt(path, sizeof path, "/proc/%u/status", run->started.pid);
    wf_read_text(AT_FDCWD, path, text, sizeof text); /* gone: empty, and it would */
    uint64_t other = status_mask(text, "SigBlk:") | status_mask(text, "SigIgn:") |
                     status_mask(text, "SigCgt:");
    return (other & BIT(sig)) == 0;
}

bool wf_signals_program_stopped(const struct wf_run *run) {
    char path[48], text[512];
    wf_fmt(path, sizeof path, "/proc/%u/stat", run->started.pid);
    wf_read_text(AT_FDCWD, path, text, sizeof text);
    const char *name_end = strrchr(text, ')'); /* the name may hold anything */
    return name_end != NULL && strncmp(name_end, ") T", 3) == 0;
}

void wf_signals_stop_here(int sig) {
    if (sig != SIGSTOP)
        set_default(sig);
    syscall(SYS_tgkill, getpid(), getpid(), sig);
    set_mask(SIG_UNBLOCK, BIT(sig), NULL); /* stops here, unless it was SIGSTOP */
    set_mask(SIG_BLOCK, BIT(sig), NULL);
}

int wf_signals_notice(struct wf_run *run, const struct signalfd_siginfo *got) {
    if (got->ssi_signo == WF_NOTICE_SIGNAL && got->ssi_code == SI_QUEUE &&
        got->ssi_pid == run->started.pid && got->ssi_ptr >> 40 == WF_NOTICE(0, 0) >> 40) {
        wf_run_noticed(run, got->ssi_ptr);
        return 0;
    }
    unsigned by = (unsigned)got->ssi_int - WF_STOP_NOTICE;
    bool notice = got->ssi_code == SI_QUEUE && by <= 64 &&
                  (got->ssi_signo == SIGCHLD || got->ssi_signo == SIGCONT);
    return !notice ? -1 : got->ssi_signo == SIGCHLD ? (int)by : 0;
}

/* The worker leads a session of its own, where the kernel ignores SIGTSTP and its like; SIGSTOP
 * does for it. This process then stops in the way it was asked to, so that its parent sees the
 * right signal. It returns when it is continued, or at once when the kernel would not stop it
 * (orphaned process group): then the program must not stay stopped either. SIGCONT itself waits in
 * the signalfd and is handed on like any other. */
static void stop_both(const struct wf_run *run, int sig) {
    uint64_t pending = 0;
    wf_run_signal(run, SIGSTOP, NULL, NULL);
    wf_signals_stop_here(sig);
    syscall(SYS_rt_sigpending, &pending, sizeof pending);
    if ((pending & BIT(SIGCONT)) == 0)
        wf_run_signal(run, SIGCONT, NULL, NULL);
}

/* `ret_stopped` is set when the program may have stopped, and by which signal. */
static void forward(struct wf_run *run, const struct signalfd_siginfo *got, int *ret_stopped) {
    int sig = (int)got->ssi_signo, stopped_by = wf_signals_notice(run, got);
    if (stopped_by > 0)
        *ret_stopped = stopped_by;
    else if (sig == SIGCHLD && *ret_stopped == 0)
        *ret_stopped = SIGSTOP; /* the kernel keeps one SIGCHLD: a notice may be behind this one */
    if (stopped_by >= 0)
        return;
    if ((sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU) && wf_signals_would_act(run, sig)) {
        stop_both(run, sig);
        return;
    }
    wf_signals_pass(run, got);
}

void wf_signals_pass(const struct wf_run *run, const struct signalfd_siginfo *got) {
    int sig = (int)got->ssi_signo;
    if (got->ssi_code ==
        SI_QUEUE) { /* the only code that the kernel lets us pass on, together with its value */
        siginfo_t info;
        memset(&info, 0, sizeof info);
        info.si_signo = sig;
        info.si_code = SI_QUEUE;
        info.si_pid = (pid_t)got->ssi_pid;
        info.si_uid = got->ssi_uid;
        info.si_value.sival_ptr = (void *)(uintptr_t)got->ssi_ptr;
        wf_run_signal(run, sig, &info, NULL);
        return;
    }
    wf_run_signal(run, sig, NULL, NULL);
}

void wf_signals_forward(int fd, struct wf_run *run) {
    struct signalfd_siginfo got[4];
    ssize_t size;
    int stopped = 0;
    while ((size = read(fd, got, sizeof got)) > 0)
        for (size_t i = 0; i < (size_t)size / sizeof *got; i++)
            forward(run, &got[i], &stopped);
    /* Only now: among them may be the SIGCONT that ends a stop which this process knows of. */
    if (stopped != 0 && wf_signals_program_stopped(run))
        wf_signals_stop_here(stopped);
}

void wf_signals_end(const struct wf_exited *end) {
    if (end->kind != WF_END_SIGNAL)
        _exit((int)end->value);
    int sig = (int)end->value;
    /* The program's core, if any, has been written; a limit of 0 does not stop one that goes to a
     * pipe. */
    static const struct rlimit no_core = { 0, 0 };
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L);
    set_default(sig);
    syscall(SYS_tgkill, getpid(), getpid(), sig);
    set_mask(SIG_UNBLOCK, BIT(sig), NULL);
    _exit(128 + sig); /* reached by a process 1, which no default action kills */
}
