/* warmpy: runs a python program in a process forked from a warm interpreter, or, whatever may be in
 * the way, with the real one. This file is the order of things; each step is a file of its own. */
#include "base/cleanup.h"
#include "client/cold.h"
#include "client/context.h"
#include "client/keeper.h"
#include "client/named.h"
#include "client/request.h"
#include "client/run.h"
#include "client/signals.h"
#include "client/start.h"
#include "client/terminal.h"
#include "client/text.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef WF_VERSION
#define WF_VERSION "unknown"
#endif

struct client {
    struct wf_context ctx;
    struct wf_collected collected;
    struct wf_run run;
    enum wf_want want;
    bool explain; /* WARMFORK_DEBUG=why */
    int signals;
    uint64_t blocked; /* the caller's signal mask */
    char rundir[WF_RUNDIR_MAX + 1];
    uint8_t definition[WF_DEFINITION_MAX];
};

int main(int argc, char **argv, char **envp);

static void say(const char *first, const char *second) {
    char line[512];
    size_t size = wf_fmt(line, sizeof line - 1, "warmpy: %s%s", first, second);
    line[size++] = '\n';
    wf_write_full(2, line, size);
}

static int own_option(const char *option) {
    static const char help[] =
        "usage: warmpy [python options] [program] [arguments]\n"
        "Runs the program as python3 would, in a process forked from a warm interpreter.\n"
        "Every option but --warmfork-help and --warmfork-version is python's own.\n\n"
        "WARMFORK_PYTHON=PATH|NAME   the interpreter; else $VIRTUAL_ENV, beside warmpy, PATH\n"
        "WARMFORK_PRELOAD=M,N        modules to have imported already\n"
        "WARMFORK_ZYGOTE=NAME        run in a zygote made by warmctl start NAME\n"
        "WARMFORK_COLD=1             run the interpreter itself\n"
        "WARMFORK_DEBUG=why          say on stderr whether the run was warm, and why not\n\n"
        "See warmpy(1) and warmctl(1).\n";
    static const char version[] = "warmpy " WF_VERSION "\n";
    if (strcmp(option, "--warmfork-help") == 0)
        return wf_write_full(1, help, sizeof help - 1) < 0 ? 1 : 0;
    if (strcmp(option, "--warmfork-version") == 0)
        return wf_write_full(1, version, sizeof version - 1) < 0 ? 1 : 0;
    if (strcmp(option, "--warmfork-keeper") == 0)
        return wf_keeper_main();
    return -1;
}

static int run_cold(struct client *c, const char *why) {
    struct wf_err err;
    if (c->explain)
        say("cold: ", why);
    int status = wf_cold_exec(&c->ctx, &err);
    say(err.text, "");
    return status;
}

/* The program has them now. Were they kept open here as well, a pipe would not end and a lock would
 * not be released when the program closes its own. */
static void close_callers(struct client *c) {
    wf_request_done(&c->collected);
    syscall(SYS_close_range, 0, 2, 0);
    for (unsigned i = 0; i < c->collected.nfds; i++)
        if (c->collected.fds[i] > 2)
            wf_close(&c->collected.fds[i]);
}

static void ask_for_zygote(struct client *c) {
    struct wf_err err;
    if (c->want == WF_WANT_NOTHING)
        return;
    if (wf_start_warm(c->rundir, &c->ctx, &c->collected, c->want == WF_WANT_CONTEXT, &err) < 0 &&
        c->explain)
        say("no zygote was asked for: ", err.text);
}

/* From the start of the program to its end. */
static _Noreturn void follow(struct client *c) {
    struct wf_run *run = &c->run;
    bool dead = false;
    for (long long until = run->spins ? wf_now_us() + WF_SPIN_US : 0;
         run->spins && !run->ended && run->master < 0 && wf_now_us() < until;) {
        wf_signals_forward(c->signals, run);
        if (run->replies.fd >= 0)
            wf_run_check(run, false);
        syscall(SYS_sched_yield);
    }
    while (!wf_run_check(run, dead) && run->master < 0) {
        struct pollfd items[3] = { { .fd = run->replies.fd, .events = POLLIN },
                                   { .fd = run->pidfd, .events = POLLIN },
                                   { .fd = c->signals, .events = POLLIN } };
        if (poll(items, 3, -1) < 0)
            continue;
        if (items[2].revents != 0)
            wf_signals_forward(c->signals, run);
        dead = items[1].revents != 0;
    }
    if (run->master >= 0) /* also when that came together with the end */
        wf_terminal_follow(run, c->signals);
    wf_signals_end(&run->end);
}

/* `why`: why no zygote with the modules of the caller's preload served, if one was looked for. */
static void explain_warm(const struct client *c, const char *why) {
    char text[400], name[48];
    bool broader = memcmp(c->run.key, c->ctx.key, sizeof c->run.key) != 0;
    wf_route_name(c->run.key, c->run.variant, false, name);
    wf_fmt(text, sizeof text, "%s, process %u%s%s", name, c->run.started.pid,
           broader ? "; without the preload: " : "", broader ? why : "");
    say("warm: ", text);
}

/* Returns 1 with `err` filled when the run must be cold. */
static int run_warm(struct client *c, struct wf_err *err) {
    struct wf_overrides own = {
        .blocked = c->blocked, .cwd = -1, .umask = -1, .notices = true, .waits = c->explain
    };
    if (wf_context_key(&c->ctx, err) < 0)
        return 1;
    if (wf_run_start(&c->ctx, &own, c->rundir, &c->collected, &c->run, &c->want, err) != 0) {
        ask_for_zygote(c);
        wf_request_done(&c->collected);
        return 1;
    }
    if (c->explain)
        explain_warm(c, err->text);
    wf_close(&c->run.replies.fd); /* if it is still open, the program begins now */
    /* All that follows happens while the program already runs. */
    if (c->want != WF_WANT_NOTHING)
        ask_for_zygote(c);
    close_callers(c);
    wf_run_find_pidfd(&c->run);
    c->signals = -1;
    wf_signals_open(&c->signals, NULL);
    follow(c);
}

int main(int argc, char **argv, char **envp) {
    struct client c;
    struct wf_err err;
    int status;
    if (argc > 1 && argv[1][0] == '-' && wf_text_starts(argv[1], "--warmfork-") &&
        (status = own_option(argv[1])) >= 0)
        return status;
    const char *debug = wf_env_get(envp, "WARMFORK_DEBUG");
    c.explain = debug != NULL && strcmp(debug, "why") == 0;
    wf_context_init(&c.ctx, (uint32_t)argc, argv, envp);
    if (wf_context_python(&c.ctx, NULL, &err) < 0) {
        say(err.text, "");
        return 127;
    }
    bool named = false;
    if (wf_rundir_path(wf_env_lookup, envp, c.rundir, &err) == 0)
        named = wf_named_apply(&c.ctx, c.rundir, c.definition, &err) == 0;
    if (!named) {
        const char *zygote = wf_env_get(envp, "WARMFORK_ZYGOTE");
        if (zygote != NULL && zygote[0] != '\0')
            say(err.text, "; running cold");
        return run_cold(&c, err.text);
    }
    if (c.ctx.cold != NULL)
        return run_cold(&c, c.ctx.cold);
    c.blocked = wf_signals_block();
    run_warm(&c, &err);
    wf_signals_restore(c.blocked);
    return run_cold(&c, err.text);
}
