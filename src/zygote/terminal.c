/* The program's terminal.
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
 * 3 the session's keeper starts (src/client/keeper.c): the client's own program, executed here,
 *   because it must be of this session. It is our sibling, so that the program has no child that it
 *   did not make.
 * 4 the client is told, and the keeper by the client whether we are in the foreground
 * 5 the pty takes the number of every descriptor that is the caller's terminal
 *
 * If any of this fails the program keeps what it has. */
#include "zygote/zygote.h"

#include "base/dirent.h"
#include "base/io.h"
#include "base/terminal.h"
#include "channel/channel.h"
#include "zygote/observe.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEPER_STACK 16384
#define PTS_MAJOR 136 /* the first of eight */
#define CONSOLE_MAJOR 4
#define HIGH_FD 900 /* what is open for a moment only, away from the program's numbers */

static struct {
    struct zy_job *job;
    const struct wf_observe_terminal **hooks; /* of _observe.so; NULL there: not interested */
    unsigned flags;                           /* of the request */
    bool sought;       /* where no standard stream is the caller's terminal: whether it has one */
    unsigned device;   /* the caller's terminal, then the pty; 0: none that we know of */
    char name[64];     /* path of the caller's terminal; "": has none */
    char own_name[32]; /* path of the pty */
    atomic_bool attached; /* the program has the pty */
    atomic_bool given_up; /* it keeps what it has */
    pid_t keeper;         /* 0: none */
    bool looked;          /* the client knows that the program looks for input */
} terminal;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* What is open while the pty is being made. */
struct making {
    int real, master, slave, socket[2], ready[2];
    struct wf_modes modes; /* of the caller's terminal */
    char client[40];
    int failed; /* errno of the keeper's exec */
};

/* By hand throughout, so that it does not come by _observe.so. */
static long control(int fd, unsigned long request, void *argument) {
    return syscall(SYS_ioctl, fd, request, argument);
}

static unsigned device_of(int fd) {
    unsigned device = 0;
    return control(fd, WF_TTY_DEVICE, &device) == 0 ? device : 0;
}

static int high(int fd) { return fd < 0 ? fd : wf_move_fd(fd, HIGH_FD); }

static void making_done(struct making *m) {
    wf_close(&m->real);
    wf_close(&m->master);
    wf_close(&m->slave);
    for (int i = 0; i < 2; i++) {
        wf_close(&m->socket[i]);
        wf_close(&m->ready[i]);
    }
}

static bool make_pty(struct making *m) {
    int unlock = 0;
    unsigned number;
    uint16_t size[4];
    m->master = high(
        (int)syscall(SYS_openat, AT_FDCWD, WF_DEV_PTMX, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (m->master < 0 || control(m->master, WF_TTY_UNLOCK, &unlock) < 0 ||
        control(m->master, WF_TTY_NUMBER, &number) < 0)
        return false;
    m->slave = high(
        (int)control(m->master, WF_TTY_PEER, (void *)(uintptr_t)(O_RDWR | O_NOCTTY | O_CLOEXEC)));
    if (m->slave < 0 || control(m->real, WF_TTY_MODES, &m->modes) < 0 ||
        control(m->slave, WF_TTY_SET_MODES, &m->modes) < 0)
        return false;
    if (control(m->real, WF_TTY_SIZE, size) == 0)
        control(m->slave, WF_TTY_SET_SIZE, size);
    wf_fmt(terminal.own_name, sizeof terminal.own_name, "/dev/pts/%u", number);
    return true;
}

/* In a child that shares our memory and holds us up until it is another program. */
static int become_keeper(void *argument) {
    struct making *m = argument;
    char *const argv[] = { (char *)"warmpy", (char *)"--warmfork-keeper", NULL }, *const envp[] = {
        NULL
    };
    const int from[] = { m->socket[1], m->master, m->real, m->ready[1] };
    for (int i = 0; i < 4; i++)
        if (syscall(SYS_dup3, from[i], i, 0) < 0)
            goto failed;
    syscall(SYS_close_range, 4, ~0u, 0);
    syscall(SYS_setpgid, 0, 0); /* here, so that the group is there when clone returns */
    syscall(SYS_execve, m->client, argv, envp);
failed:
    m->failed = errno ? errno : EINVAL;
    _exit(127);
}

/* What the client finds in the socket: the master, and the modes from which on it follows them. */
static bool send_master(const struct making *m) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } rights = { { 0 } };
    struct iovec part = { (void *)(uintptr_t)&m->modes, sizeof m->modes };
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof m->master);
    memcpy(CMSG_DATA(c), &m->master, sizeof m->master);
    return sendmsg(m->socket[1], &msg, MSG_NOSIGNAL) == (ssize_t)sizeof m->modes;
}

static bool start_keeper(struct making *m) {
    static _Alignas(16) char stack[KEEPER_STACK];
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    m->socket[0] = high(pair[0]);
    m->socket[1] = high(pair[1]);
    if (pipe2(pair, O_CLOEXEC) < 0)
        return false;
    m->ready[0] = high(pair[0]);
    m->ready[1] = high(pair[1]);
    if (!send_master(m))
        return false;
    wf_fmt(m->client, sizeof m->client, "/proc/%u/exe", terminal.job->client_pid);
    terminal.keeper = clone(become_keeper, stack + sizeof stack,
                            CLONE_VM | CLONE_VFORK | CLONE_PARENT | SIGCHLD, m);
    if (terminal.keeper < 0 || m->failed != 0)
        terminal.keeper = 0;
    return terminal.keeper > 0;
}

/* When there is no keeper, or no client: this session loses its terminal again. That raises SIGHUP
 * here, which must not be seen: all signals are blocked, and this one is taken away again. */
static void undo_controlling(void) {
    static const struct timespec now = { 0, 0 };
    sigset_t set;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, WF_DEV_TTY, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    control(fd, TIOCNOTTY, NULL);
    wf_close(&fd);
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigtimedwait(&set, NULL, &now);
}

/* The pty in the place of one descriptor that is the caller's terminal: with its access mode, its
 * flags and its number. */
static void replace(const struct making *m, int fd) {
    int flags = fcntl(fd, F_GETFL), own = fcntl(fd, F_GETFD), as = m->slave;
    if (flags < 0 || own < 0)
        return;
    if (flags & O_PATH)
        return;
    if ((flags & (O_ACCMODE | O_NONBLOCK | O_APPEND)) != O_RDWR)
        as = (int)control(m->master, WF_TTY_PEER,
                          (void *)(uintptr_t)((flags & (O_ACCMODE | O_NONBLOCK | O_APPEND)) |
                                              O_NOCTTY | O_CLOEXEC));
    if (as >= 0)
        syscall(SYS_dup3, as, fd, own & FD_CLOEXEC ? O_CLOEXEC : 0);
    if (as >= 0 && as != m->slave)
        wf_close(&as);
}

static void replace_all(const struct making *m) {
    _Alignas(8) char buffer[4096];
    long got;
    int dir = high(
        (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while ((got = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < got;) {
            const struct wf_dirent *d = (const void *)(buffer + at);
            int fd = 0;
            for (const char *c = d->name; *c >= '0' && *c <= '9'; c++)
                fd = fd * 10 + (*c - '0');
            if (d->name[0] != '.' && fd != m->real && device_of(fd) == terminal.device)
                replace(m, fd);
            at += d->size;
        }
    }
    wf_close(&dir);
}

/* Fields 4 to 8 of the client's /proc/PID/stat. */
enum {
    CLIENT_PARENT,
    CLIENT_GROUP,
    CLIENT_SESSION,
    CLIENT_TERMINAL,
    CLIENT_FOREGROUND,
    CLIENT_FIELDS
};

static bool client_stat(long ret[CLIENT_FIELDS]) {
    char path[32], text[1024], *at;
    wf_fmt(path, sizeof path, "/proc/%u/stat", terminal.job->client_pid);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    long size = fd < 0 ? -1 : syscall(SYS_read, fd, text, sizeof text - 1);
    wf_close(&fd);
    text[size < 0 ? 0 : size] = '\0';
    at = strrchr(text, ')'); /* the name may hold anything */
    if (at == NULL || strlen(at) < 4)
        return false;
    at += 3; /* behind the state */
    for (int i = 0; i < CLIENT_FIELDS; i++)
        ret[i] = strtol(at, &at, 10);
    return true;
}

/* The keeper says when stops work, and once it has done what the client told it first. A program in
 * the foreground is where the kernel has put it already, and need not wait for that. End of file:
 * there is no keeper any more. */
static void await_keeper(struct making *m) {
    long stat[CLIENT_FIELDS], got;
    bool foreground = client_stat(stat) && stat[CLIENT_GROUP] == stat[CLIENT_FOREGROUND];
    char byte;
    wf_close(&m->ready[1]);
    wf_close(&m->socket[1]);
    for (int count = foreground ? 1 : 2; count > 0;) {
        got = syscall(SYS_read, m->ready[0], &byte, 1);
        if (got == 0 || (got < 0 && errno != EINTR))
            return;
        count -= got > 0;
    }
}

static bool attach(int real) {
    struct making m = {
        .real = -1, .master = -1, .slave = -1, .socket = { -1, -1 }, .ready = { -1, -1 }
    };
    bool done = false;
    m.real = fcntl(real, F_DUPFD_CLOEXEC, HIGH_FD);
    int listener = m.real < 0 ? -1 : zy_tie_call(terminal.job), connection = -1;
    if (listener >= 0 && make_pty(&m) && control(m.slave, WF_TTY_CONTROLLING, NULL) == 0) {
        if (start_keeper(&m))
            connection = zy_tie_answered(terminal.job, &listener);
        done = connection >= 0 &&
               wf_channel_send(connection, WF_TERMINAL, 0, NULL, 0, &m.socket[0], 1, NULL) == 0;
        if (done) {
            await_keeper(&m);
            replace_all(&m);
            terminal.device = device_of(m.slave);
            atomic_store(&terminal.attached, true);
        } else {
            undo_controlling();
        }
    }
    wf_close(&listener);
    wf_close(&connection);
    making_done(&m);
    return done;
}

/* The caller's terminal when none of its standard streams is that: a number that is that of
 * TIOCGDEV. Only pseudo-terminals and consoles have names that follow from it. */
static void seek(void) {
    long stat[CLIENT_FIELDS];
    terminal.sought = true;
    if (!client_stat(stat))
        return;
    unsigned device = (unsigned)stat[CLIENT_TERMINAL];
    unsigned major = device >> 8 & 0xfff, minor = (device & 0xff) | (device >> 12 & 0xfff00);
    if (major >= PTS_MAJOR && major < PTS_MAJOR + 8)
        wf_fmt(terminal.name, sizeof terminal.name, "/dev/pts/%u",
               (major - PTS_MAJOR) * 256 + minor);
    else if (major == CONSOLE_MAJOR && minor < 64)
        wf_fmt(terminal.name, sizeof terminal.name, "/dev/tty%u", minor);
    if (terminal.name[0] != '\0')
        terminal.device = device;
}

/* A descriptor of the caller's terminal, or -1. */
static int find_real(void) {
    if (terminal.device == 0 && !terminal.sought)
        seek();
    if (terminal.device == 0)
        return -1;
    for (int fd = 0; fd < 3; fd++)
        if (device_of(fd) == terminal.device)
            return fd;
    /* The program has closed or moved them: opened anew, by name. */
    int fd = terminal.name[0] == '\0'
                 ? -1
                 : (int)syscall(SYS_openat, AT_FDCWD, terminal.name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0 && device_of(fd) != terminal.device)
        wf_close(&fd);
    return fd;
}

/* Once: afterwards the program has the pty, or keeps what it has for good. Signals wait, so that no
 * handler of the program's comes by here meanwhile. */
static void attach_now(int real) {
    uint64_t all = ~0ull, before = 0;
    int code = errno, opened = -1;
    if (terminal.job->owner != getpid())
        return;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    pthread_mutex_lock(&lock);
    if (!terminal.attached && !terminal.given_up) {
        if (real < 0)
            real = opened = find_real();
        if (real < 0 || !attach(real))
            terminal.given_up = true;
    }
    if (opened > 2)
        wf_close(&opened);
    pthread_mutex_unlock(&lock);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    errno = code;
}

/* A program that looks whether there is input, and goes on when there is none, is never seen
 * waiting for it: the client must not wait for that either. */
static void tell_look(void) {
    bool first;
    int code = errno;
    pthread_mutex_lock(&lock);
    first = !terminal.looked && terminal.job->owner == getpid();
    if (first) {
        zy_tie_tell_input(terminal.job);
        terminal.looked = true;
    }
    pthread_mutex_unlock(&lock);
    errno = code;
}

static void on_use(int fd, enum wf_observe_use use) {
    int code = errno;
    if (terminal.device == 0 || terminal.given_up || (terminal.attached && terminal.looked) ||
        terminal.job->owner != getpid() || device_of(fd) != terminal.device) {
        errno = code;
        return;
    }
    if (!terminal.attached && !terminal.given_up)
        attach_now(fd);
    if (use == WF_OBSERVE_READ && (fcntl(fd, F_GETFL) & O_NONBLOCK))
        use = WF_OBSERVE_LOOK;
    if (use == WF_OBSERVE_LOOK && terminal.attached && !terminal.looked)
        tell_look();
    errno = code;
}

/* Any terminal at all: a session's leader without one would make the next that it opens its
 * controlling terminal, which a program that is in its caller's session would not. */
static const char *on_open(const char *path) {
    if (strncmp(path, "/dev/tty", 8) != 0 && strncmp(path, "/dev/pts/", 9) != 0)
        return path;
    if (!terminal.attached && !terminal.given_up)
        attach_now(-1);
    return terminal.attached && strcmp(path, terminal.name) == 0 ? terminal.own_name : path;
}

static void on_process(void) {
    if (!terminal.attached && !terminal.given_up)
        attach_now(-1);
}

/* A session's leader that ends takes the terminal's foreground group with it (SIGHUP), which in the
 * caller's session nobody would do to children that go on: the keeper, whom it does not hurt, steps
 * into the foreground. */
void zy_terminal_leave(void) {
    uint64_t stop = 1ull << (SIGTTOU - 1);
    if (terminal.keeper == 0 || terminal.job->owner != getpid())
        return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, WF_DEV_TTY, O_RDWR | O_CLOEXEC | O_NOCTTY);
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &stop, NULL, sizeof stop);
    if (fd >= 0)
        control(fd, WF_TTY_SET_GROUP, &terminal.keeper);
    wf_close(&fd);
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
    uint64_t all = ~0ull, before = 0;
    if (terminal.job->owner != getpid() || (terminal.flags & WF_F_LEADS))
        return 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    pthread_mutex_lock(&lock);
    terminal.given_up = true;
    terminal.flags |= WF_F_LEADS;
    if (terminal.attached) {
        zy_terminal_leave();
        undo_controlling();
    }
    pthread_mutex_unlock(&lock);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    return 1;
}

static const struct wf_observe_terminal hooks = {
    .use = on_use,
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
    char link[32];
    int fd = flags & WF_F_TERMINAL_0 ? 0 : flags & WF_F_TERMINAL_1 ? 1 : 2;
    if (terminal.hooks == NULL || !job->notices)
        return;
    terminal.job = job;
    terminal.flags = flags;
    if (flags & WF_F_TERMINAL) {
        terminal.device = device_of(fd);
        wf_fmt(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(link, terminal.name, sizeof terminal.name - 1);
        terminal.name[size < 0 ? 0 : size] = '\0';
    }
    *terminal.hooks = &hooks;
    if (flags & WF_F_TERMINAL_NOW)
        attach_now(fd);
}
