/* warmctl start, warmctl warm: a zygote for this context, before the first program wants it. */
#include "ctl/ctl.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "channel/channel.h"
#include "client/context.h"
#include "client/named.h"
#include "client/start.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct wanted {
    const char *name, *preload, *python;
    char *init; /* absolute; owned */
    bool wait;
    int option_count; /* python's options */
    char **options;
};

static struct {
    long long started_us;
    bool tty;
    char step[200];
} shown;

static struct wf_span span(const char *text) {
    return (struct wf_span){ (const uint8_t *)text, text ? (uint32_t)strlen(text) : 0 };
}

/* On a terminal one line that is written anew; else notes are lines, and the passing of time says
 * nothing. */
static void progress(const char *text) {
    if (text)
        wf_fmt(shown.step, sizeof shown.step, "%s", text);
    if (!shown.tty) {
        if (text)
            fprintf(stderr, "warmctl: %s\n", text);
        return;
    }
    long long seconds = (wf_now_us() - shown.started_us) / 1000000;
    fprintf(stderr, "\r\033[Kwarmctl: %.100s (%lld s)", shown.step, seconds);
    fflush(stderr);
}

static void progress_end(void) {
    if (shown.tty)
        fputs("\r\033[K", stderr);
}

static int parse(struct wanted *w, int argc, char **argv, bool named) {
    enum { PRELOAD = 256, INIT, PYTHON, NO_WAIT };
    static const struct option known[] = {
        { "preload", required_argument, NULL, PRELOAD },
        { "init", required_argument, NULL, INIT },
        { "python", required_argument, NULL, PYTHON },
        { "no-wait", no_argument, NULL, NO_WAIT },
        { 0 },
    };
    int end = 1; /* what follows "--" is python's; getopt would lose sight of where that was */
    while (end < argc && strcmp(argv[end], "--") != 0)
        end++;
    char *after = argv[end];
    argv[end] = NULL;
    *w = (struct wanted){ .wait = true };
    const char *init = NULL;
    for (int c; (c = getopt_long(end, argv, "", known, NULL)) != -1;) {
        if (c == PRELOAD)
            w->preload = optarg;
        else if (c == INIT && named)
            init = optarg;
        else if (c == PYTHON)
            w->python = optarg;
        else if (c == NO_WAIT)
            w->wait = false;
        else if (c == INIT)
            return wc_usage("--init needs a name: warmctl start NAME", "");
        else
            return WC_USAGE;
    }
    if (named && optind < end)
        w->name = argv[optind++];
    if (optind < end)
        return wc_usage("unexpected argument", argv[optind]);
    if (named && !w->name)
        return wc_usage("which zygote? warmctl start NAME", "");
    argv[end] = after;
    w->options = argv + end + (end < argc);
    w->option_count = argc - end - (end < argc);
    if (w->name && !wf_named_valid(w->name))
        return wc_usage("a zygote's name has letters, digits, and . _ - (not first):", w->name);
    if (w->preload && (strpbrk(w->preload, " \t\n") || strlen(w->preload) > WF_PRELOAD_MAX))
        return wc_usage("--preload takes module names with commas between:", w->preload);
    if (init && !(w->init = realpath(init, NULL))) {
        struct wf_err err;
        wf_err_sys(&err, "realpath", init);
        return wc_fail(err.text);
    }
    if (w->init && access(w->init, R_OK) < 0) {
        struct wf_err err;
        wf_err_sys(&err, "access", w->init);
        return wc_fail(err.text);
    }
    return WC_OK;
}

/* The command line whose context is meant: PYTHON OPTIONS -c pass. Owned by the caller. */
static char **make_command(const struct wanted *w) {
    char **argv = calloc((size_t)w->option_count + 4, sizeof *argv);
    if (!argv)
        return NULL;
    argv[0] = (char *)"python3";
    memcpy(argv + 1, w->options, (size_t)w->option_count * sizeof *argv);
    argv[w->option_count + 1] = (char *)"-c";
    argv[w->option_count + 2] = (char *)"pass";
    return argv;
}

/* -1, or 0 with the context of what is wanted; it may not be one that can be served. */
static int make_context(struct wf_context *ctx, const struct wanted *w, char **argv,
                        const char *rundir, uint8_t *room, struct wf_err *err) {
    wf_context_init(ctx, (uint32_t)w->option_count + 3, argv, environ);
    if (ctx->command.options != (uint32_t)w->option_count && !ctx->cold)
        return wf_err_msg(err, "only options of python itself may follow --");
    if (wf_context_python(ctx, w->python, err) < 0)
        return -1;
    if (w->name || w->preload) {
        ctx->zygote = span(w->name);
        ctx->preload = span(w->preload);
        ctx->init = span(w->init);
    } else if (wf_named_apply(ctx, rundir, room, err) < 0) {
        return -1;
    }
    if (!ctx->cold && (wf_python_check_elf(ctx->python, err) < 0 || wf_context_key(ctx, err) < 0))
        return -1;
    return ctx->cold ? wf_err_msg(err, "this context cannot be warmed: %s", ctx->cold) : 0;
}

#define MAKES_WAY 2 /* code of the daemon's answer: it ends, and the next one can do it */

/* Asks the daemon, and waits for its word if that is wanted. -1, or 0 with *ret_code and *ret_text,
 * which is the caller's, or NULL when nothing was waited for. */
static int ask(const struct wanted *w, const char *rundir, const struct wf_context *ctx,
               struct wf_collected *c, unsigned *ret_code, char **ret_text, struct wf_err *err) {
    wf_request_name_directory(c);
    for (bool again = true;; again = false) {
        WF_AUTO_FD fd = -1;
        struct wf_message none;
        if (wf_start_daemon(rundir, environ, &fd, err) < 0 ||
            wf_request_send_warm(fd, ctx, c, true, w->wait ? WF_F_WAIT : 0, err) < 0)
            return -1;
        if (!w->wait)
            return 0;
        if (wc_await(fd, progress, ret_code, ret_text, err) < 0)
            return -1;
        if (*ret_code != MAKES_WAY || !again)
            return 0;
        free(*ret_text);
        *ret_text = NULL;
        if (wf_channel_receive(fd, &none, NULL, 0, 5000, err) > 0) /* its end, that is */
            wf_message_done(&none);
    }
}

static int report(const struct wanted *w, unsigned code, const char *text) {
    const char *what = w->name ? w->name : "this context";
    if (code != 0) {
        fprintf(stderr, "warmctl: %s: %s\n", what, text);
        return WC_FAILED;
    }
    if (text)
        printf("%s: %s\n", what, text);
    return WC_OK;
}

static int run(const struct wanted *w, const char *rundir, char **command) {
    const struct wf_overrides own = { .umask = -1, .cwd = -1 };
    static struct wf_collected collected;
    static uint8_t room[WF_DEFINITION_MAX];
    struct wf_context ctx;
    struct wf_err err;
    unsigned code = 0;
    WF_AUTO_FREE char *text = NULL;
    if (make_context(&ctx, w, command, rundir, room, &err) < 0)
        return wc_fail(err.text);
    struct wf_definition definition = { span(w->name), span(w->preload), span(w->init) };
    if (w->name && wc_definition_write(rundir, &definition, &err) < 0)
        return wc_fail(err.text);
    if (wf_request_collect(&ctx, &own, -1, &collected, &err) != 0 ||
        wf_request_bound(&collected, -1, &err) < 0)
        return wc_fail(err.text);
    shown.started_us = wf_now_us();
    shown.tty = isatty(2);
    if (w->wait && shown.tty)
        progress("starting");
    int status = ask(w, rundir, &ctx, &collected, &code, &text, &err);
    wf_request_done(&collected);
    if (w->wait)
        progress_end();
    return status < 0 ? wc_fail(err.text) : report(w, code, text);
}

static int start(int argc, char **argv, bool named) {
    char rundir[WF_RUNDIR_MAX + 1];
    struct wanted w;
    struct wf_err err;
    int status = parse(&w, argc, argv, named);
    if (status == WC_OK && wc_rundir(rundir, &err) < 0)
        status = wc_fail(err.text);
    if (status == WC_OK) {
        char **command = make_command(&w);
        status = command ? run(&w, rundir, command) : wc_fail("out of memory");
        free(command);
    }
    free(w.init);
    return status;
}

int wc_start(int argc, char **argv) { return start(argc, argv, true); }

int wc_warm(int argc, char **argv) { return start(argc, argv, false); }
