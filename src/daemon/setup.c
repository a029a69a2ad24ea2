/* What the process needs before its loop: runtime directory, lock, socket, log, libdir; and what it
 * leaves behind: the starter's descriptors. */
#include "daemon/daemon.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h> /* renameat */
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static const char *get_variable(void *unused, const char *name) {
    (void)unused;
    return getenv(name);
}

int wd_setup_rundir(struct daemon *d, struct wf_err *err) {
    if (wf_rundir_path(get_variable, NULL, d->rundir, err) < 0)
        return -1;
    return wf_rundir_open(d->rundir, true, &d->rundir_fd, err);
}

static bool same_file(int fd, int other) {
    struct stat a, b;
    return fstat(fd, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static void ring(int signal) { (void)signal; }

/* Waits for a lock that a starter may be holding for the moment, but not for ever. */
static int lock_bounded(int fd) {
    struct sigaction action = { .sa_handler = ring }, old;
    sigaction(SIGALRM, &action, &old);
    /* Repeats, so that an alarm that goes off just before flock() sleeps is not the only one. */
    struct itimerval timer = { .it_value.tv_sec = 5, .it_interval.tv_sec = 1 }, off = { 0 };
    setitimer(ITIMER_REAL, &timer, NULL);
    int result = flock(fd, LOCK_EX);
    int saved = errno;
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &old, NULL);
    errno = saved;
    return result;
}

/* The starter hands its locked descriptor over ($WARMFORK_LOCK_FD): there is then no moment at
 * which nobody holds the lock. Started by hand, the daemon takes it itself, and whoever has it for
 * life has a socket that answers. */
int wd_setup_lock(struct daemon *d, bool *ret_running, struct wf_err *err) {
    int fd = openat(d->rundir_fd, "daemon.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return wf_err_sys(err, "open", "daemon.lock");
    const char *text = getenv("WARMFORK_LOCK_FD");
    int given = text && *text ? atoi(text) : -1;
    if (given > 2 && same_file(given, fd)) {
        close(fd);
        fd = given;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    unsetenv("WARMFORK_LOCK_FD");
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int other;
        if (wf_channel_connect(d->rundir, "daemon.sock", &other, NULL) == 0) {
            close(other);
            close(fd);
            *ret_running = true;
            return 0;
        }
        if (lock_bounded(fd) < 0) {
            wf_err_sys(err, "flock", "daemon.lock");
            close(fd);
            return -1;
        }
    }
    d->lock_fd = fd;
    *ret_running = false;
    return 0;
}

int wd_setup_systemd(void) {
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    bool ours = pid && count && atoi(pid) == (int)getpid() && atoi(count) >= 1;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    int listening = 0;
    socklen_t size = sizeof listening;
    if (!ours || getsockopt(3, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening)
        return -1;
    fcntl(3, F_SETFD, FD_CLOEXEC);
    return 3;
}

int wd_setup_listen(struct daemon *d, int inherited, struct wf_err *err) {
    int fd = inherited;
    if (fd < 0 && wf_channel_listen(d->rundir, "daemon.sock", 128, &fd, err) < 0)
        return -1;
    d->activated = inherited >= 0;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    d->accepting = true;
    return wd_watch(d, &d->listen, fd, wd_server_accept, d, err);
}

static bool is_libdir(struct daemon *d, const char *path) {
    char file[1100];
    if (strlen(path) >= sizeof d->libdir)
        return false;
    wf_fmt(file, sizeof file, "%s/_zygote.abi3.so", path);
    if (access(file, R_OK) < 0)
        return false;
    wf_fmt(d->libdir, sizeof d->libdir, "%s", path);
    return true;
}

static bool find_by_glob(struct daemon *d, const char *bindir, const char *tail) {
    char pattern[1100];
    glob_t found;
    bool done = false;
    wf_fmt(pattern, sizeof pattern, "%s%s", bindir, tail);
    if (glob(pattern, GLOB_BRACE, NULL, &found) != 0)
        return false;
    for (size_t i = 0; i < found.gl_pathc && !done; i++)
        done = is_libdir(d, found.gl_pathv[i]);
    globfree(&found);
    return done;
}

int wd_setup_libdir(struct daemon *d, struct wf_err *err) {
    const char *given = getenv("WARMFORK_LIBDIR");
    if (given && *given) {
        if (given[0] == '/' && is_libdir(d, given))
            return 0;
        return wf_err_msg(err, "WARMFORK_LIBDIR: no _zygote.abi3.so in %s", given);
    }
    char exe[1024];
    ssize_t size = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (size < 0)
        return wf_err_sys(err, "readlink", "/proc/self/exe");
    exe[size] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = '\0';
    static const char *const tails[] = {
        "/../lib/warmfork",
        "/../lib*/python3*/{site,dist}-packages/warmfork",
        "/..",
        "",
    };
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (find_by_glob(d, exe, tails[i]))
            return 0;
    return wf_err_msg(err, "no _zygote.abi3.so in %s/../lib/warmfork; set WARMFORK_LIBDIR", exe);
}

/* What a worker can at best be given: it inherits our limits and niceness. */
void wd_setup_measure(struct daemon *d) {
    for (int i = 0; i < WF_LIMITS; i++) {
        struct rlimit limit;
        d->limit[i] = (struct wf_limit){ UINT64_MAX, UINT64_MAX };
        if (i < (int)RLIM_NLIMITS && getrlimit((__rlimit_resource_t)i, &limit) == 0)
            d->limit[i] = (struct wf_limit){ limit.rlim_cur, limit.rlim_max };
    }
    d->nice = getpriority(PRIO_PROCESS, 0);
    d->memory_max_kb = wd_memory_limit_kb(d->options.memory_percent);
}

/* Descriptors that the starter leaked would live as long as we do; what we opened ourselves is
 * close-on-exec, and above all listed here. Called before the loop exists. */
void wd_setup_close_inherited(const struct daemon *d, int also) {
    int keep[] = { d->lock_fd, d->rundir_fd, also };
    unsigned from = 3;
    for (;;) {
        unsigned next = ~0u;
        for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
            if (keep[i] >= (int)from && (unsigned)keep[i] < next)
                next = (unsigned)keep[i];
        if (next > from)
            close_range(from, next - 1, 0);
        if (next == ~0u)
            return;
        from = next + 1;
    }
}

/* A full or read-only disk must not matter: without a file, lines are dropped. */
void wd_log_start(struct daemon *d) {
    static int current = -1;
    int fd = openat(d->rundir_fd, "daemon.log",
                    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    struct stat st;
    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)))
        wf_close(&fd); /* a fifo somebody put there could block us */
    wf_log_open(fd, "daemon", (enum wf_log_level)d->options.log_level);
    wf_close(&current);
    current = fd;
}

void wd_log_rotate(struct daemon *d) {
    struct stat st;
    if (fstatat(d->rundir_fd, "daemon.log", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        st.st_size < WD_LOG_MAX)
        return;
    if (renameat(d->rundir_fd, "daemon.log", d->rundir_fd, "daemon.log.1") < 0 &&
        unlinkat(d->rundir_fd, "daemon.log", 0) < 0)
        return;
    wd_log_start(d);
}
