#include "client/start.h"

#include "base/cleanup.h"
#include "base/rundir.h"
#include "channel/channel.h"
#include "client/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIENT_FD 3       /* pidfd of the client, in the starter */
#define HOLD_MS 10000     /* as the daemon holds what it warms up: daemon/hold.c */
#define RETRY_LOCK_MS 100 /* a lock that is given back raises no event we could wait for */

#ifndef __WALL
#define __WALL 0x40000000
#endif

int wf_start_connect(const char *rundir, int *ret_fd, struct wf_err *err) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (wf_fmt(address.sun_path, sizeof address.sun_path, "%s/daemon.sock", rundir) >=
        sizeof address.sun_path - 1)
        return wf_err_msg(err, "runtime directory %s: too long", rundir);
    /* Non-blocking: a daemon with a full backlog is as good as none. */
    WF_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return wf_err_sys(err, "socket", address.sun_path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return wf_err_sys(err, "connect", address.sun_path);
    if (wf_channel_check_peer(fd, NULL, err) < 0)
        return -1;
    if (fcntl(fd, F_SETFL, 0) < 0)
        return wf_err_sys(err, "fcntl", address.sun_path);
    *ret_fd = wf_steal_fd(&fd);
    return 0;
}

/* What the starter waits for: daemon.sock appears, or the daemon that it started itself ends. */
struct start {
    const char *rundir;
    char *const *envp;
    int watch, lock, daemon; /* inotify; daemon.lock; pidfd */
    bool spawned;
};

static int start_open(struct start *s, struct wf_err *err) {
    WF_AUTO_FD dir = -1;
    if (wf_rundir_open(s->rundir, true, &dir, err) < 0)
        return -1;
    s->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (s->watch < 0)
        return wf_err_sys(err, "inotify_init1", NULL);
    if (inotify_add_watch(s->watch, s->rundir, IN_MOVED_TO | IN_CREATE | IN_ONLYDIR) < 0)
        return wf_err_sys(err, "inotify_add_watch", s->rundir);
    s->lock = openat(dir, "daemon.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return s->lock < 0 ? wf_err_sys(err, "open", "daemon.lock") : 0;
}

static void start_close(struct start *s) {
    wf_close(&s->watch);
    wf_close(&s->lock);
    wf_close(&s->daemon);
}

static void drain(int watch) {
    char room[4096];
    while (read(watch, room, sizeof room) > 0)
        ;
}

/* Somebody else may be starting a daemon, or may have done so since we looked: so lock, connect
 * once more, spawn. */
static int start_try(struct start *s, int *ret_fd, struct wf_err *err) {
    bool locked = !s->spawned && flock(s->lock, LOCK_EX | LOCK_NB) == 0;
    if (wf_start_connect(s->rundir, ret_fd, err) == 0)
        return 1;
    if (!locked)
        return 0;
    s->spawned = true;
    if (wf_spawn_daemon(s->envp, s->lock, &s->daemon, err) < 0)
        return -1;
    wf_close(&s->lock); /* the daemon holds it now, as it will for life */
    return 0;
}

static int start_wait(struct start *s, long long deadline, struct wf_err *err) {
    long long left = (deadline - wf_now_us()) / 1000;
    if (left <= 0) {
        struct wf_err why = *err;
        return wf_err_msg(err, "no daemon after %d ms: %.*s", WF_START_TIMEOUT_MS, 250, why.text);
    }
    struct pollfd items[2] = { { .fd = s->watch, .events = POLLIN },
                               { .fd = s->daemon, .events = POLLIN } };
    int limit = s->spawned || left < RETRY_LOCK_MS ? (int)left : RETRY_LOCK_MS;
    int count = poll(items, 2, limit);
    if (count < 0 && errno != EINTR)
        return wf_err_sys(err, "poll", "daemon.sock");
    if (count > 0)
        drain(s->watch);
    if (count > 0 && items[1].revents != 0) {
        /* It ended; that is a failure unless another daemon was there first. */
        int fd;
        if (wf_start_connect(s->rundir, &fd, NULL) < 0)
            return wf_err_msg(err, "warmforkd ended at once; see %s/daemon.log", s->rundir);
        wf_close(&fd);
        wf_close(&s->daemon);
    }
    return 0;
}

int wf_start_daemon(const char *rundir, char *const *envp, int *ret_fd, struct wf_err *err) {
    struct start s = { .rundir = rundir, .envp = envp, .watch = -1, .lock = -1, .daemon = -1 };
    struct wf_err scratch;
    long long deadline = wf_now_us() + WF_START_TIMEOUT_MS * 1000ll;
    int result = 0;
    err = err != NULL ? err : &scratch;
    if (wf_start_connect(rundir, ret_fd, err) == 0)
        return 0;
    if (start_open(&s, err) < 0)
        result = -1;
    while (result == 0 && (result = start_try(&s, ret_fd, err)) == 0)
        result = start_wait(&s, deadline, err);
    start_close(&s);
    return result > 0 ? 0 : -1;
}

/* The detached starter: nothing of the caller's stays open in it, or a reader of the program's
 * output would wait for it. What it starts would slow the caller's program down, which is about to
 * run cold in this very process: it waits for the end of that, unless it takes long. */
static _Noreturn void starter(const char *rundir, const struct wf_context *ctx,
                              struct wf_collected *c, bool with_preload, int client) {
    const uint64_t none = 0;
    int daemon;
    bool waits = client >= 0 && dup2(client, CLIENT_FD) >= 0;
    syscall(SYS_close_range, 0, CLIENT_FD - 1, 0);
    syscall(SYS_close_range, waits ? CLIENT_FD + 1 : CLIENT_FD, ~0u, 0);
    int null = openat(AT_FDCWD, "/dev/null", O_RDWR);
    while (null >= 0 && null < 3)
        null = dup(null);
    if (null > 2)
        wf_close(&null);
    setsid();
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
    struct pollfd end = { .fd = CLIENT_FD, .events = POLLIN };
    if (chdir("/") < 0)
        _exit(1);
    if (waits)
        poll(&end, 1, HOLD_MS);
    wf_close(&end.fd);
    if (wf_start_daemon(rundir, ctx->envp, &daemon, NULL) == 0)
        wf_request_send_warm(daemon, ctx, c, with_preload, 0, NULL);
    _exit(0);
}

int wf_start_warm(const char *rundir, const struct wf_context *ctx, struct wf_collected *c,
                  bool with_preload, struct wf_err *err) {
    int status;
    WF_AUTO_FD daemon = -1;
    struct wf_err connect_err;
    if (wf_python_check_elf(ctx->python, err) < 0 || wf_request_bound(c, -1, err) < 0)
        return -1;
    wf_request_name_directory(c);
    if (wf_start_connect(rundir, &daemon, &connect_err) == 0)
        return wf_request_send_warm(daemon, ctx, c, with_preload, 0, err);
    if (connect_err.code != ENOENT && connect_err.code != ECONNREFUSED) {
        if (err != NULL)
            *err = connect_err;
        return -1;
    }
    const char *unwise = wf_spawn_unwise(ctx, c);
    if (unwise != NULL)
        return wf_err_msg(err, "%s", unwise);
    int child = wf_spawn_fork();
    if (child < 0)
        return wf_err_sys(err, "fork", "starter of the daemon");
    if (child == 0) {
        int client = (int)syscall(SYS_pidfd_open, (pid_t)c->request.pid, 0);
        if (wf_spawn_fork() == 0)
            starter(rundir, ctx, c, with_preload, client);
        _exit(0);
    }
    while (waitpid(child, &status, __WALL) < 0 && errno == EINTR)
        ;
    return 0;
}
