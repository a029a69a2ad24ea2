/* Making processes: python for a base zygote, a candidate out of a ready base; and unmaking one
 * that is not ready. */
#include "daemon/daemon.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* argv and envp of a base zygote, in one place to free them together; strings point into the
 * request. */
struct plan {
    char *python, *preload_variable, *tunables_variable, boot[1100], extension[1100];
    char **argv, **envp;
    char since[24]; /* filled in the child */
    mode_t umask; /* caches of modules that python writes have the modes that its user gives them */
};

static void plan_done(struct plan *p) {
    free(p->python);
    free(p->preload_variable);
    free(p->tunables_variable);
    free(p->argv);
    free(p->envp);
}

/* "NAME=first" + separator + what the caller has under this name. */
static char *joined(const char *name, const char *first, char separator, const char *theirs) {
    size_t size = strlen(name) + strlen(first) + strlen(theirs) + 3;
    char *text = malloc(size), middle[2] = { *theirs ? separator : '\0' };
    if (text)
        wf_fmt(text, size, "%s=%s%s%s", name, first, middle, theirs);
    return text;
}

static const char *value_of(const char *entry, const char *name) {
    size_t size = strlen(name);
    return strncmp(entry, name, size) == 0 && entry[size] == '=' ? entry + size + 1 : NULL;
}

/* The requester's environment, except that two variables are added to; the zygote undoes that by
 * the request. The loader splits LD_PRELOAD at spaces and colons: a libdir with one of these goes
 * without. */
static int plan_environment(struct daemon *d, struct plan *p, char **strings, uint32_t count) {
    const char *preload = "", *tunables = "", *value;
    char hook[1100];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if ((value = value_of(strings[i], "LD_PRELOAD")))
            preload = value;
        else if ((value = value_of(strings[i], "GLIBC_TUNABLES")))
            tunables = value;
        else
            p->envp[kept++] = strings[i];
    }
    wf_fmt(hook, sizeof hook, "%s/_observe.so", d->libdir);
    if (access(hook, R_OK) < 0 || strpbrk(hook, " :")) {
        wf_log(WF_LOG_WARN, "%s cannot be used: variables that C code consults are not recorded",
               hook);
        hook[0] = '\0';
    }
    p->preload_variable = joined("LD_PRELOAD", hook, ':', preload);
    p->tunables_variable = joined("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", ':', tunables);
    if (!p->preload_variable || !p->tunables_variable)
        return -1;
    if (hook[0] || *preload)
        p->envp[kept++] = p->preload_variable;
    p->envp[kept++] = p->tunables_variable;
    return 0;
}

static int plan_make(struct daemon *d, struct plan *p, const struct wf_request *r,
                     struct wf_err *err) {
    *p = (struct plan){ .umask = r->umask };
    p->argv = calloc((size_t)r->options + 5, sizeof *p->argv);
    p->envp = calloc((size_t)r->envc + 3, sizeof *p->envp);
    p->python = strndup((const char *)r->python.data, r->python.size);
    char **strings = calloc((size_t)r->argc + r->envc + 1, sizeof *strings);
    int status = -1;
    if (p->argv && p->envp && p->python && strings) {
        char *at = (char *)r->strings.data;
        for (uint32_t i = 0; i < r->argc + r->envc; i++, at += strlen(at) + 1)
            strings[i] = at;
        wf_fmt(p->boot, sizeof p->boot, "%s/boot/boot.py", d->libdir);
        wf_fmt(p->extension, sizeof p->extension, "%s/_zygote.abi3.so", d->libdir);
        p->argv[0] = p->python;
        memcpy(p->argv + 1, strings + 1, r->options * sizeof *strings);
        p->argv[r->options + 1] = p->boot;
        p->argv[r->options + 2] = p->extension;
        p->argv[r->options + 3] = p->since;
        status = plan_environment(d, p, strings + r->argc, r->envc);
    }
    free(strings);
    return status < 0 ? wf_err_msg(err, "out of memory for the command line of %.*s",
                                   (int)r->python.size, (const char *)r->python.data)
                      : 0;
}

/* Tells the interpreter since when files may have been read (us of CLOCK_REALTIME). Time stamps of
 * files lag behind by up to a tick: what was written just before must not look as if it were later.
 */
static void note_time(const struct plan *p) {
    struct timespec grain = { 0, 10000000 }, now;
    clock_getres(CLOCK_REALTIME_COARSE, &grain);
    grain.tv_nsec += 1000000;
    nanosleep(&grain, NULL);
    clock_gettime(CLOCK_REALTIME, &now);
    wf_fmt((char *)p->since, sizeof p->since, "%lld",
           (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

/* In the child, between fork and exec: only system calls. Descriptors are first moved out of the
 * way of 0–3. */
static _Noreturn void become_python(const struct plan *p, int control, int errors) {
    sigset_t none;
    umask(p->umask);
    setsid(); /* no terminal's signals, and a group of its own to be killed as */
    for (int i = 1; i < NSIG; i++)
        if (i != SIGKILL && i != SIGSTOP)
            signal(i, SIG_DFL);
    sigemptyset(&none);
    int null = open("/dev/null", O_RDWR);
    control = fcntl(control, F_DUPFD, 10);
    errors = fcntl(errors, F_DUPFD, 10);
    if (null < 0 || control < 0 || errors < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
        dup2(errors, 2) < 0 || dup2(control, 3) < 0)
        _exit(127);
    close_range(4, ~0u, 0);
    sigprocmask(SIG_SETMASK, &none, NULL);
    note_time(p);
    execve(p->argv[0], p->argv, p->envp);
    char text[512];
    size_t size = wf_fmt(text, sizeof text, "execve %s: %s\n", p->argv[0], strerror(errno));
    wf_write_full(2, text, size);
    _exit(127);
}

static int spawn_python(struct daemon *d, struct wd_zygote *z, const struct plan *p,
                        struct wf_err *err) {
    int pair[2], ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return wf_err_sys(err, "socketpair", NULL);
    z->launch_fd = pair[0];
    WF_AUTO_FD control = pair[1];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return wf_err_sys(err, "pipe2", NULL);
    WF_AUTO_FD errors = ends[1];
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    if (wd_watch(d, &z->errors, ends[0], wd_errors_ready, z, err) < 0)
        return -1;
    pid_t pid = fork();
    if (pid < 0)
        return wf_err_sys(err, "fork", p->argv[0]);
    if (pid == 0)
        become_python(p, control, errors);
    z->pid = pid;
    z->child = true;
    return wd_pid_watch(d, z, err);
}

/* Sends the request with one end of a new control channel, and watches the other. */
static int hand_over(struct daemon *d, struct wd_zygote *z, int to, struct wf_err *err) {
    int pair[2];
    struct stat st;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return wf_err_sys(err, "socketpair", NULL);
    WF_AUTO_FD theirs = pair[1];
    z->peer_ino = fstat(theirs, &st) == 0 ? st.st_ino : 0;
    if (wd_control_watch(d, z, pair[0], err) < 0)
        return -1;
    return wd_send(to, WF_SPAWN, z->request, z->request_size, &theirs, err);
}

int wd_launch_python(struct daemon *d, struct wd_zygote *z, struct wf_err *err) {
    struct wf_request r;
    struct plan plan;
    const char *wrong = wf_decode_request(z->request, z->request_size, &r);
    if (wrong)
        return wf_err_msg(err, "request: %s", wrong);
    int status = plan_make(d, &plan, &r, err);
    if (status == 0)
        status = spawn_python(d, z, &plan, err);
    plan_done(&plan);
    if (status == 0)
        status = hand_over(d, z, z->launch_fd, err);
    if (status < 0 && z->pid > 0)
        kill(-z->pid, SIGKILL), kill(z->pid, SIGKILL);
    return status;
}

int wd_launch_candidate(struct daemon *d, struct wd_zygote *z, struct wd_zygote *base,
                        struct wf_err *err) {
    z->base_id = base->id;
    z->bases_tried |= 1u << base->variant;
    base->used_us = wf_now_us();
    if (z->preload && z->preload[0]) {
        char text[300];
        wf_fmt(text, sizeof text, "importing %.*s", 250, z->preload);
        wd_notify(d, z->id, text);
    }
    return hand_over(d, z, base->control.fd, err);
}

static bool holds(pid_t pid, ino_t socket) {
    char path[48], wanted[40], target[64];
    wf_fmt(path, sizeof path, "/proc/%d/fd", (int)pid);
    wf_fmt(wanted, sizeof wanted, "socket:[%lu]", (unsigned long)socket);
    DIR *dir = opendir(path);
    bool found = false;
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));) {
        ssize_t size = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        target[size > 0 ? size : 0] = '\0';
        found = strcmp(target, wanted) == 0;
    }
    if (dir)
        closedir(dir);
    return found;
}

static bool is_zygote(const struct daemon *d, pid_t pid) {
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next)
        if (z->pid == pid && z->state < ZS_FAILED)
            return true;
    return pid == getpid();
}

/* A candidate tells its pid only when it is ready. One that hangs is known by the socket that it,
 * and what it forked, alone hold; this is rare enough to look through /proc. */
static void kill_holders(const struct daemon *d, ino_t socket) {
    DIR *dir = socket ? opendir("/proc") : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        pid_t pid = atoi(entry->d_name);
        if (pid > 1 && !is_zygote(d, pid) && holds(pid, socket))
            kill(pid, SIGKILL);
    }
    if (dir)
        closedir(dir);
}

void wd_launch_kill(struct wd_zygote *z, const struct daemon *d) {
    if (z->child) {
        kill(-z->pid, SIGKILL);
        kill(z->pid, SIGKILL);
    } else {
        kill_holders(d, z->peer_ino);
    }
}
