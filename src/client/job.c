/* Signals and stops of a program that has a terminal of its own: what the keys of the caller's
 * terminal make, what its shell does to jobs, what is sent to this process.
 *
 * The program's session has no keeper (keeper.h) until it can matter: before that the program is
 * alone there, in the foreground, and the kernel ignores SIGTSTP and its like. It is stopped by
 * SIGSTOP then, which for a single process is the same. */
#include "client/terminal.h"

#include "base/io.h"
#include "client/signals.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ANSWER_MS 1000
#define BIT(sig) (1ull << ((sig) - 1))

#ifndef SI_KERNEL
#define SI_KERNEL 0x80
#endif

void wf_keeper_command(const struct wf_terminal *t, enum wf_keeper_command what) {
    const char byte = (char)what;
    if (t->keeper >= 0)
        send(t->keeper, &byte, 1, MSG_NOSIGNAL);
}

bool wf_terminal_pass(int socket, char byte, const int *fds, unsigned count) {
    union {
        char space[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = { &byte, 1 };
    struct msghdr msg = { .msg_iov = &part,
                          .msg_iovlen = 1,
                          .msg_control = &control,
                          .msg_controllen = CMSG_SPACE(count * sizeof *fds) };
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(count * sizeof *fds);
    memcpy(CMSG_DATA(c), fds, count * sizeof *fds);
    return sendmsg(socket, &msg, MSG_NOSIGNAL) == 1;
}

void wf_keeper_take(struct wf_terminal *t) {
    const int fds[2] = { t->master, t->real };
    if (t->keeper >= 0 || t->run->keeper < 0)
        return;
    t->keeper = wf_steal_fd(&t->run->keeper);
    if (t->master >= 0)
        wf_modes_find_place(t);
    if (t->master < 0 ||
        !wf_terminal_pass(t->keeper, t->foreground ? WF_KEEPER_FOREGROUND : WF_KEEPER_BACKGROUND,
                          fds, 2))
        wf_close(&t->keeper); /* the program goes on without one */
    else if (t->raw)
        wf_keeper_command(t, WF_KEEPER_RAW);
}

static bool is_stop(int sig) { return sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU; }

/* When it returns the program goes on: a stop that is reported then is a new one. */
static void go_on(const struct wf_terminal *t) {
    struct pollfd item = { .fd = t->keeper, .events = POLLIN };
    char byte;
    if (t->keeper < 0)
        wf_run_signal(t->run, SIGCONT, NULL, NULL);
    wf_keeper_command(t, WF_KEEPER_CONTINUE);
    if (t->keeper >= 0 && poll(&item, 1, ANSWER_MS) > 0)
        syscall(SYS_recvfrom, t->keeper, &byte, 1, MSG_DONTWAIT, NULL, NULL);
}

static void resume(struct wf_terminal *t) {
    wf_modes_resume(t);
    wf_keeper_command(t, t->foreground ? WF_KEEPER_FOREGROUND : WF_KEEPER_BACKGROUND);
    go_on(t);
}

/* The program has been stopped: the caller's terminal as the program left it, and this process
 * stopped in the same way. When the kernel does not (an orphaned group), the program goes on too.
 */
static void stop_too(struct wf_terminal *t, int sig) {
    uint64_t pending = 0;
    while (wf_relay_output(t) == WF_RELAYED_MORE)
        ;
    if (t->foreground && t->raw)
        wf_modes_leave_raw(t);
    wf_signals_stop_here(sig);
    syscall(SYS_rt_sigpending, &pending, sizeof pending);
    if ((pending & BIT(SIGCONT)) == 0)
        resume(t);
}

static void suspend(struct wf_terminal *t, int sig) {
    if (!wf_signals_program_stopped(t->run))
        return;
    if (sig == SIGTTIN || sig == SIGTTOU)
        wf_modes_notice_foreground(t);
    if ((sig == SIGTTIN || sig == SIGTTOU) && t->foreground)
        go_on(t);
    else
        stop_too(t, sig);
}

/* A stop that a program without a keeper is to see. */
static bool stop_alone(struct wf_terminal *t, int sig) {
    if (t->keeper >= 0 || !is_stop(sig) || !wf_signals_would_act(t->run, sig))
        return false;
    wf_run_signal(t->run, SIGSTOP, NULL, NULL);
    stop_too(t, sig);
    return true;
}

/* What the caller's terminal made of a key. */
static void key_signal(struct wf_terminal *t, int sig) {
    bool was_foreground = t->foreground;
    wf_modes_notice_foreground(t);
    if (!(t->modes.local & WF_LOCAL_NO_FLUSH))
        t->flushed = ioctl(t->slave, WF_TTY_FLUSH, 0) == 0; /* the real one has been */
    if (stop_alone(t, sig))
        return;
    if (!was_foreground || ioctl(t->master, WF_TTY_SIGNAL, (long)sig) < 0)
        syscall(SYS_kill, -(int)t->run->started.pid, sig);
}

void wf_terminal_hang_up(struct wf_terminal *t) {
    wf_keeper_command(t, WF_KEEPER_RESTORED);
    wf_close(&t->changes);
    wf_close(&t->slave);
    wf_close(&t->master);
    wf_close(&t->keeper);
}

static bool ends_programs(int sig) {
    return sig != SIGCHLD && sig != SIGCONT && sig != SIGURG && sig != SIGWINCH && !is_stop(sig);
}

static void kill_program(const struct wf_terminal *t, int sig) {
    const char bytes[2] = { WF_KEEPER_KILL, (char)sig };
    if (t->keeper < 0 || send(t->keeper, bytes, sizeof bytes, MSG_NOSIGNAL) < 0)
        wf_run_signal(t->run, sig, NULL, NULL);
}

/* Returns the signal that the program was stopped by, or 0. */
static int take_signal(struct wf_terminal *t, const struct signalfd_siginfo *got) {
    int sig = (int)got->ssi_signo, stopped = wf_signals_notice(t->run, got);
    if (stopped >= 0)
        return stopped;
    bool ours = got->ssi_code == SI_USER && (int)got->ssi_pid == getpid();
    if (ours && (sig == SIGINT || sig == SIGQUIT || sig == SIGTSTP))
        return 0; /* signal_others in relay.c */
    if (sig == SIGCHLD)
        return SIGSTOP; /* the kernel keeps one: a notice may be behind this one */
    if (sig == SIGCONT)
        resume(t);
    else if (sig == SIGWINCH && got->ssi_code == SI_KERNEL)
        wf_modes_notice_foreground(t), wf_modes_copy_size(t);
    else if ((sig == SIGINT || sig == SIGQUIT || sig == SIGTSTP) && got->ssi_code == SI_KERNEL)
        key_signal(t, sig);
    else if (sig == SIGHUP && got->ssi_code == SI_KERNEL && t->foreground)
        wf_terminal_hang_up(t);
    else if (sig == SIGHUP &&
             (got->ssi_code == SI_KERNEL || (long)got->ssi_pid == syscall(SYS_getsid, 0)))
        syscall(SYS_kill, -(int)t->run->started.pid,
                sig); /* as the shell's end is to a whole job */
    else if (t->foreground && ends_programs(sig) && got->ssi_code != SI_QUEUE &&
             wf_signals_would_act(t->run, sig))
        kill_program(t, sig);
    else if (!stop_alone(t, sig))
        wf_signals_pass(t->run, got);
    return 0;
}

void wf_terminal_take_signals(struct wf_terminal *t) {
    struct signalfd_siginfo got[4];
    ssize_t size;
    int stopped = 0;
    wf_run_check(t->run, false); /* whether there is a keeper now decides how a stop is done */
    wf_keeper_take(t);
    while ((size = read(t->signals, got, sizeof got)) > 0)
        for (size_t i = 0; i < (size_t)size / sizeof *got; i++) {
            int by = take_signal(t, &got[i]);
            if (by > 0 && (stopped == 0 || by != SIGSTOP))
                stopped = by;
        }
    if (stopped > 0)
        suspend(t, stopped);
}
