/* The public face of the client: include/warmfork.h over context, request and run. */
#include "warmfork.h"

#include "base/io.h"
#include "client/context.h"
#include "client/named.h"
#include "client/request.h"
#include "client/run.h"
#include "client/start.h"
#include "client/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

_Static_assert(sizeof(struct warmfork_error) == sizeof(struct wf_err),
               "the public error is the internal one");

struct warmfork_run {
    struct wf_run run;
};

/* All that one warmfork_start needs; too large for a small thread's stack. */
struct launch {
    struct wf_context ctx;
    struct wf_collected collected;
    struct wf_overrides own;
    uint8_t definition[WF_DEFINITION_MAX];
    char rundir[WF_RUNDIR_MAX + 1];
    int numbers[WF_MAX_FDS];
};

/* umask(2) can only be asked by changing it, which other threads would notice. */
static int64_t read_umask(void) {
    char text[1024];
    wf_read_text(AT_FDCWD, "/proc/thread-self/status", text, sizeof text);
    const char *line = strstr(text, "\nUmask:");
    int64_t mask = 0;
    if (line == NULL)
        return -1;
    for (line += 7; *line == '\t' || *line == ' '; line++)
        ;
    for (; *line >= '0' && *line <= '7'; line++)
        mask = mask * 8 + (*line - '0');
    return mask;
}

static int prepare(struct launch *l, const struct warmfork_program *program, struct wf_err *err) {
    uint32_t argc = 0;
    while (program->argv[argc] != NULL)
        argc++;
    wf_context_init(&l->ctx, argc, program->argv, program->envp != NULL ? program->envp : environ);
    if (argc == 0)
        return wf_err_msg(err, "warmfork_start: argv is empty");
    if (program->fds != NULL && program->nfds > WF_MAX_FDS)
        return wf_err_msg(err, "warmfork_start: more than %d descriptors", WF_MAX_FDS);
    if (wf_context_python(&l->ctx, program->python, err) < 0)
        return -1;
    l->own = (struct wf_overrides){ .cwd = program->cwd_fd, .umask = read_umask() };
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &l->own.blocked, sizeof l->own.blocked);
    if (program->fds == NULL)
        return 0;
    for (unsigned i = 0; i < program->nfds; i++)
        l->numbers[i] = program->fd_numbers != NULL ? program->fd_numbers[i] : (int)i;
    l->own.fds = program->fds;
    l->own.fdnums = l->numbers;
    l->own.nfds = (unsigned)program->nfds;
    return 0;
}

static enum warmfork_started try_warm(struct launch *l, struct wf_run *run, struct wf_err *err) {
    struct wf_err no_warm;
    enum wf_want want;
    if (wf_rundir_path(wf_env_lookup, (void *)l->ctx.envp, l->rundir, err) < 0 ||
        wf_named_apply(&l->ctx, l->rundir, l->definition, err) < 0)
        return WARMFORK_COLD;
    if (l->ctx.cold != NULL) {
        wf_err_msg(err, "%s", l->ctx.cold);
        return WARMFORK_COLD;
    }
    if (wf_context_key(&l->ctx, err) < 0)
        return WARMFORK_COLD;
    int result = wf_run_start(&l->ctx, &l->own, l->rundir, &l->collected, run, &want, err);
    if (want != WF_WANT_NOTHING)
        wf_start_warm(l->rundir, &l->ctx, &l->collected, want == WF_WANT_CONTEXT, &no_warm);
    wf_request_done(&l->collected);
    if (result == 0)
        wf_run_find_pidfd(run);
    return result == 0 ? WARMFORK_STARTED : WARMFORK_COLD;
}

enum warmfork_started warmfork_start(const struct warmfork_program *program, warmfork_run **ret_run,
                                     struct warmfork_error *error) {
    struct wf_err *err = (struct wf_err *)error;
    enum warmfork_started result = WARMFORK_ERROR;
    if (program->size != sizeof *program || program->argv == NULL) {
        wf_err_msg(err, "warmfork_start: struct warmfork_program of another version");
        return WARMFORK_ERROR;
    }
    struct launch *l = malloc(sizeof *l);
    warmfork_run *run = malloc(sizeof *run);
    if (l == NULL || run == NULL)
        wf_err_sys(err, "malloc", "warmfork_run");
    else if (prepare(l, program, err) == 0)
        result = try_warm(l, &run->run, err);
    free(l);
    if (result == WARMFORK_STARTED)
        *ret_run = run;
    else
        free(run);
    return result;
}

pid_t warmfork_pid(const warmfork_run *run) { return (pid_t)run->run.started.pid; }

int warmfork_pidfd(const warmfork_run *run) { return run->run.pidfd; }

int warmfork_signal(warmfork_run *run, int sig, struct warmfork_error *error) {
    return wf_run_signal(&run->run, sig, NULL, (struct wf_err *)error);
}

int warmfork_wait(warmfork_run *run, int timeout_ms, struct warmfork_end *ret_end,
                  struct warmfork_error *error) {
    struct wf_run *r = &run->run;
    long long deadline = timeout_ms >= 0 ? wf_now_us() + timeout_ms * 1000ll : 0;
    bool dead = false;
    while (!wf_run_check(r, dead)) {
        long long left = timeout_ms >= 0 ? (deadline - wf_now_us() + 999) / 1000 : -1;
        struct pollfd items[2] = { { .fd = r->replies.fd, .events = POLLIN },
                                   { .fd = r->pidfd, .events = POLLIN } };
        if (timeout_ms >= 0 && left <= 0)
            left = 0;
        int count = poll(items, 2, (int)left);
        if (count < 0 && errno != EINTR)
            return wf_err_sys((struct wf_err *)error, "poll", "run");
        dead = count > 0 && items[1].revents != 0;
        if (count == 0) {
            *ret_end = (struct warmfork_end){ .kind = WARMFORK_RUNNING };
            return 0;
        }
    }
    *ret_end = (struct warmfork_end){ .kind = (int)r->end.kind,
                                      .value = (int)r->end.value,
                                      .core = (int)r->end.core };
    return 0;
}

void warmfork_free(warmfork_run *run) {
    if (run == NULL)
        return;
    wf_run_done(&run->run);
    free(run);
}

ssize_t warmfork_python(char *const *envp, char *ret_path, size_t size,
                        struct warmfork_error *error) {
    char path[WF_PATH_ROOM];
    if (wf_python_find(NULL, envp != NULL ? envp : environ, path, (struct wf_err *)error) < 0)
        return -1;
    size_t length = strlen(path);
    if (length >= size) {
        errno = ENAMETOOLONG;
        return wf_err_sys((struct wf_err *)error, "warmfork_python", path);
    }
    memcpy(ret_path, path, length + 1);
    return (ssize_t)length;
}
