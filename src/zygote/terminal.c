/* When a program gets a terminal of its own.
 *
 * A worker cannot join its caller's session, and only a session's members have /dev/tty, process
 * groups in the foreground, and stops. Programs that just write need none of that: they are given
 * the caller's terminal itself, and nothing stands between. Whatever goes further is told to us by
 * _observe.so (observe_terminal.c) just before it happens; then, once and for all, the worker gets
 * a pseudo-terminal in the place of the caller's, which the client connects to that
 * (src/client/terminal.c):
 *
 * 1 a pty with the modes and the size of the caller's terminal
 * 2 it becomes the controlling terminal of this session, which the worker has led since it was
 *   forked
 * 3 the client is told
 * 4 the pty takes the number of every descriptor that is the caller's terminal
 *
 * and, as soon as it is more than a process alone in the foreground that asks questions: before it
 * reads, changes the terminal, makes a process or stops itself,
 *
 * 5 the session's keeper starts (session.c), and is told by the client whether we are in the
 *   foreground
 *
 * If any of this fails the program keeps what it has. */
#include "zygote/terminal.h"

#include "base/io.h"
#include "channel/channel.h"
#include "zygote/observe.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEPER_TRIES 3 /* it is a process: there may be no room for one */

static struct {
    struct zy_job *job;
    const struct wf_observe_terminal **hooks; /* of _observe.so; NULL there: not interested */
    unsigned flags;                           /* of the request */
    struct zy_caller caller;
    unsigned device;      /* the caller's terminal, then the pty */
    char own_name[32];    /* path of the pty */
    atomic_bool attached; /* the program has the pty */
    atomic_bool given_up; /* it keeps what it has */
    pid_t keeper;         /* 0: none */
    int tries;            /* to start one */
    bool looked;          /* the client knows that the program looks for input */
} terminal;
/* To the client, while something is told to it: the program finds none. */
static int listener = -1, connection = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Signals wait, so that no handler of the program's comes by here meanwhile. */
static uint64_t enter(void) {
    uint64_t all = ~0ull, before = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    pthread_mutex_lock(&lock);
    return before;
}

static void leave(uint64_t before) {
    pthread_mutex_unlock(&lock);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
}

/* The client connects while we go on. */
static void call(void) {
    if (listener < 0 && connection < 0)
        listener = zy_tie_call(terminal.job);
}

static bool connected(void) {
    if (connection < 0)
        connection = zy_tie_answered(terminal.job, &listener);
    return connection >= 0;
}

static void keep(bool in_front) {
    if (terminal.keeper != 0 || terminal.tries++ >= KEEPER_TRIES)
        return;
    call();
    if (connected())
        terminal.keeper = zy_session_keep(terminal.job, connection, in_front);
}

/* What the client is to know: the master, and the modes from which on it follows them. */
static bool tell_terminal(struct zy_pty *pty) {
    struct iovec modes = { &pty->modes, sizeof pty->modes };
    return connected() &&
           wf_channel_send(connection, WF_TERMINAL, 0, &modes, 1, &pty->master, 1, NULL) == 0;
}

static bool attach(int real) {
    struct zy_pty pty;
    bool done = false;
    call();
    if (zy_pty_make(&pty, real) && zy_tty_control(pty.slave, WF_TTY_CONTROLLING, NULL) == 0) {
        done = tell_terminal(&pty);
        if (done) {
            if (!zy_caller_in_front(terminal.job->client_pid))
                keep(false);
            zy_pty_replace(&pty, terminal.caller.device);
            terminal.device = zy_tty_device(pty.slave);
            memcpy(terminal.own_name, pty.name, sizeof terminal.own_name);
            atomic_store(&terminal.attached, true);
        } else {
            zy_session_drop_terminal();
        }
    }
    zy_pty_done(&pty);
    return done;
}

/* The pty, once: afterwards the program has it, or keeps what it has for good; `real`: a
 * descriptor of the caller's terminal, or -1. With `keeper` that as well. */
static void advance(int real, bool keeper) {
    int code = errno, opened = -1;
    if (terminal.job->owner != getpid())
        return;
    uint64_t before = enter();
    if (!terminal.attached && !terminal.given_up) {
        if (real < 0)
            real = opened = zy_caller_open(&terminal.caller, terminal.job->client_pid);
        if (real >= 0)
            zy_caller_name(&terminal.caller, real);
        if (real < 0 || !attach(real))
            terminal.given_up = true;
    }
    if (opened > 2)
        wf_close(&opened);
    if (keeper && terminal.attached && !terminal.given_up && terminal.keeper == 0)
        keep(zy_caller_in_front(terminal.job->client_pid));
    wf_close(&listener);
    wf_close(&connection);
    leave(before);
    errno = code;
}

/* A program that looks whether there is input, and goes on when there is none, is never seen
 * waiting for it: the client must not wait for that either. */
static void tell_look(void) {
    int code = errno;
    pthread_mutex_lock(&lock);
    if (!terminal.looked && terminal.job->owner == getpid()) {
        zy_tie_tell_input(terminal.job);
        terminal.looked = true;
    }
    pthread_mutex_unlock(&lock);
    errno = code;
}

/* One that has been put into the background meanwhile is to be told so, and stopped if it reads. */
static bool wants_keeper(enum wf_observe_use use) {
    return terminal.keeper == 0 &&
           (use != WF_OBSERVE_ASK || !zy_caller_in_front(terminal.job->client_pid));
}

static void on_use(int fd, enum wf_observe_use use) {
    int code = errno;
    if (terminal.device == 0 || terminal.given_up ||
        (terminal.attached && terminal.keeper != 0 && terminal.looked) ||
        terminal.job->owner != getpid() || zy_tty_device(fd) != terminal.device) {
        errno = code;
        return;
    }
    if (!terminal.attached || wants_keeper(use))
        advance(fd, use != WF_OBSERVE_ASK || terminal.attached);
    if (use == WF_OBSERVE_READ && (fcntl(fd, F_GETFL) & O_NONBLOCK))
        use = WF_OBSERVE_LOOK;
    if (use == WF_OBSERVE_LOOK && terminal.attached && !terminal.looked)
        tell_look();
    errno = code;
}

/* Before the program has a terminal of its own, what that would answer is known here: it would be
 * this session's, and this group in the foreground if the client is. Who is there instead only the
 * caller's terminal knows, at any time. */
static int on_ask(int fd, unsigned long request, int *ret) {
    int code = errno, group = -1;
    if (terminal.device != 0 && !terminal.given_up && terminal.job->owner == getpid() &&
        zy_tty_device(fd) == terminal.device)
        group = request == TIOCGSID ? 0 : zy_caller_front(terminal.job->client_pid);
    if (terminal.attached && group == 0)
        group = -1;
    if (group >= 0)
        *ret = group > 0 ? group : terminal.job->owner;
    errno = code;
    return group >= 0;
}

/* Any terminal at all: a session's leader without one would make the next that it opens its
 * controlling terminal, which a program that is in its caller's session would not. */
static const char *on_open(const char *path) {
    if (strncmp(path, "/dev/tty", 8) != 0 && strncmp(path, "/dev/pts/", 9) != 0)
        return path;
    if (!terminal.attached && !terminal.given_up)
        advance(-1, false);
    return terminal.attached && strcmp(path, terminal.caller.name) == 0 ? terminal.own_name : path;
}

static void on_process(void) {
    if (!terminal.given_up && terminal.keeper == 0)
        advance(-1, true);
}

bool zy_terminal_is_alone(void) { return terminal.attached && terminal.keeper == 0; }

/* A session's leader that ends takes the terminal's foreground group with it (SIGHUP), which in the
 * caller's session nobody would do to children that go on: the keeper, whom it does not hurt, steps
 * into the foreground. Without one there are no children. */
void zy_terminal_leave(void) {
    if (terminal.keeper != 0 && terminal.job->owner == getpid())
        zy_session_put_in_front(terminal.keeper);
}

/* A worker leads its group and its session from the start. A program under a shell leads its group
 * too, or could: only a session's leader may not. */
static int on_lead_group(int pid, int group) {
    int self = getpid();
    if (terminal.job->owner != self || (terminal.flags & WF_F_LEADS_SESSION) ||
        (pid != 0 && pid != self) || (group != 0 && group != self))
        return 0;
    terminal.flags |= WF_F_LEADS_GROUP;
    return 1;
}

/* A group's leader may not; for anyone else it is a new session, without a terminal. */
static int on_lead_session(void) {
    if (terminal.job->owner != getpid() || (terminal.flags & WF_F_LEADS))
        return 0;
    uint64_t before = enter();
    terminal.given_up = true;
    terminal.flags |= WF_F_LEADS;
    if (terminal.attached) {
        zy_terminal_leave();
        zy_session_drop_terminal();
    }
    leave(before);
    return 1;
}

static const struct wf_observe_terminal hooks = {
    .use = on_use,
    .ask = on_ask,
    .open = on_open,
    .process = on_process,
    .exit = zy_terminal_leave,
    .lead_group = on_lead_group,
    .lead_session = on_lead_session,
};

void zy_terminal_prepare(void) {
    terminal.hooks = dlsym(RTLD_DEFAULT, "wf_observe_terminal");
    if (terminal.hooks != NULL)
        *terminal.hooks = NULL; /* so that its page is our own already */
}

void zy_terminal_arm(struct zy_job *job, unsigned flags) {
    int fd = flags & WF_F_TERMINAL_0 ? 0 : flags & WF_F_TERMINAL_1 ? 1 : 2;
    if (terminal.hooks == NULL || !job->notices)
        return;
    terminal.job = job;
    terminal.flags = flags;
    if (flags & WF_F_TERMINAL)
        terminal.device = terminal.caller.device = zy_tty_device(fd);
    *terminal.hooks = &hooks;
    if (flags & WF_F_TERMINAL_NOW)
        advance(fd, true);
}
