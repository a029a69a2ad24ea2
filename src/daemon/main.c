/* warmforkd: the daemon's command line and start. Prints only until it is ready; from then on there
 * is the log. */
#include "daemon/daemon.h"

#include "base/io.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "Usage: warmforkd [OPTION]...\n"
    "Start, watch and retire the zygotes that warmpy's programs are forked from.\n"
    "warmpy and warmctl start it by themselves; it needs no arguments.\n"
    "\n"
    "  --idle SECONDS       retire a zygote that ran nothing for so long, and exit when none\n"
    "                       is left (default: $WARMFORK_IDLE, else 1800; 0: never)\n"
    "  --memory PERCENT     retire the least used zygotes when all of them together hold\n"
    "                       more of the memory (default: $WARMFORK_MEMORY, else 25)\n"
    "  --log-level LEVEL    error, warn, info or debug (default: $WARMFORK_LOG_LEVEL, else info)\n"
    "  --foreground         stay in the foreground\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 done, or another daemon is already there; 1 failed; 2 wrong usage.\n";

static int fail(const struct wf_err *err) {
    fprintf(stderr, "warmforkd: %s\n", err->text);
    return 1;
}

static bool parse_number(const char *text, long max, long *ret) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < 0 || value > max)
        return false;
    *ret = value;
    return true;
}

static bool parse_level(const char *text, int *ret) {
    static const char *const names[] = { "error", "warn", "info", "debug" };
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *ret = i;
            return true;
        }
    return false;
}

/* A variable that makes no sense is ignored: it may have come from anywhere, and nobody may be
 * there to read. */
static void options_from_environment(struct wd_options *o) {
    long value;
    const char *text = getenv("WARMFORK_IDLE");
    if (text && parse_number(text, 1000000000, &value))
        o->idle_us = value * WD_SECOND;
    text = getenv("WARMFORK_MEMORY");
    if (text && parse_number(text, 100, &value))
        o->memory_percent = (unsigned)value;
    text = getenv("WARMFORK_LOG_LEVEL");
    if (text)
        parse_level(text, &o->log_level);
}

/* -1: go on, else exit with that status. */
static int options_parse(struct wd_options *o, int argc, char **argv) {
    enum { IDLE = 256, MEMORY, LEVEL, FOREGROUND, HELP, VERSION };
    static const struct option known[] = {
        { "idle", required_argument, NULL, IDLE },
        { "memory", required_argument, NULL, MEMORY },
        { "log-level", required_argument, NULL, LEVEL },
        { "foreground", no_argument, NULL, FOREGROUND },
        { "help", no_argument, NULL, HELP },
        { "version", no_argument, NULL, VERSION },
        { 0 },
    };
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        long value = 0;
        bool good = true;
        switch (c) {
        case IDLE:
            if ((good = parse_number(optarg, 1000000000, &value)))
                o->idle_us = value * WD_SECOND;
            break;
        case MEMORY:
            if ((good = parse_number(optarg, 100, &value)))
                o->memory_percent = (unsigned)value;
            break;
        case LEVEL:
            good = parse_level(optarg, &o->log_level);
            break;
        case FOREGROUND:
            o->foreground = true;
            break;
        case HELP:
            fputs(help, stdout);
            return 0;
        case VERSION:
            puts("warmforkd " WF_VERSION);
            return 0;
        default:
            return 2;
        }
        if (!good) {
            fprintf(stderr, "warmforkd: \"%s\" is no value for this option; see --help\n", optarg);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "warmforkd: unexpected argument \"%s\"; see --help\n", argv[optind]);
        return 2;
    }
    return -1;
}

/* The starter's signal settings are its own affair. */
static void reset_signals(void) {
    sigset_t none;
    for (int i = 1; i < NSIG; i++)
        if (i != SIGKILL && i != SIGSTOP)
            signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Started by hand: the command returns when the daemon listens, or has said on stderr why it does
 * not. */
static int to_background(int *ret_ready) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        fprintf(stderr, "warmforkd: pipe2: %s\n", strerror(errno));
        return 1;
    }
    pid_t pid = fork();
    if (pid < 0) {
        fprintf(stderr, "warmforkd: fork: %s\n", strerror(errno));
        return 1;
    }
    if (pid > 0) {
        char status = 1;
        close(ends[1]);
        wf_read_full(ends[0], &status, 1);
        return status;
    }
    close(ends[0]);
    setsid();
    *ret_ready = ends[1];
    return -1;
}

static void detach(int *ready, int status) {
    if (*ready >= 0) {
        char byte = (char)status;
        wf_write_full(*ready, &byte, 1);
        wf_close(ready);
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        if (null != fd)
            dup2(null, fd);
    if (null > 2)
        close(null);
}

/* An fd of ours below 3 would be taken for a standard stream by everyone we start. */
static void fill_stdio(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd < 3);
    wf_close(&fd);
}

static int prepare(struct daemon *d, int inherited, bool *ret_running, struct wf_err *err) {
    umask(077);
    if (wd_setup_rundir(d, err) < 0 || wd_setup_lock(d, ret_running, err) < 0)
        return -1;
    if (*ret_running)
        return 0;
    wd_log_start(d);
    if (wd_setup_libdir(d, err) < 0 || wf_place_get(&d->place, err) < 0)
        return -1;
    if (chdir("/") < 0)
        return wf_err_sys(err, "chdir", "/");
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return wf_err_sys(err, "prctl", "PR_SET_CHILD_SUBREAPER");
    wd_setup_measure(d);
    if (wd_loop_init(d, err) < 0)
        return -1;
    wd_adopt_all(d); /* before anyone can ask for what is there already */
    return wd_setup_listen(d, inherited, err);
}

int main(int argc, char **argv) {
    static struct daemon daemon = {
        .options = { .idle_us = 1800 * WD_SECOND, .memory_percent = 25, .log_level = WF_LOG_INFO },
        .rundir_fd = -1,
        .lock_fd = -1,
        .signals.fd = -1,
        .timer.fd = -1,
        .listen.fd = -1,
    };
    struct daemon *d = &daemon;
    struct wf_err err;
    bool running = false;
    int ready = -1;
    fill_stdio();
    options_from_environment(&d->options);
    int status = options_parse(&d->options, argc, argv);
    if (status >= 0)
        return status;
    reset_signals();
    int inherited = wd_setup_systemd();
    const char *lock = getenv("WARMFORK_LOCK_FD");
    int lock_fd = lock && *lock ? atoi(lock) : -1;
    /* What was inherited goes first, while nothing of ours is open yet. */
    d->lock_fd = lock_fd;
    wd_setup_close_inherited(d, inherited);
    d->lock_fd = -1;
    if (!d->options.foreground && !lock && inherited < 0 && (status = to_background(&ready)) >= 0)
        return status;
    if (prepare(d, inherited, &running, &err) < 0) {
        wf_log(WF_LOG_ERROR, "not started: %s", err.text);
        return fail(&err);
    }
    if (running) {
        detach(&ready, 0);
        return 0;
    }
    d->started_us = d->used_us = wf_now_us();
    wf_log(WF_LOG_INFO, "warmforkd " WF_VERSION " started, libdir %s", d->libdir);
    detach(&ready, 0);
    if (wd_loop_run(d, &err) < 0) {
        wf_log(WF_LOG_ERROR, "stopped: %s", err.text);
        return 1;
    }
    wf_log(WF_LOG_INFO, "exits");
    return 0;
}
