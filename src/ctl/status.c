/* warmctl status, warmctl stop. */
#include "ctl/ctl.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "client/named.h"
#include "client/start.h"
#include <dirent.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_definition(const struct wf_definition *def) {
    printf("%.*s: defined, starts with the first program that asks for it\n", (int)def->name.size,
           (const char *)def->name.data);
    if (def->preload.size > 0)
        printf("    preload: %.*s\n", (int)def->preload.size, (const char *)def->preload.data);
    if (def->init.size > 0)
        printf("    init: %.*s\n", (int)def->init.size, (const char *)def->init.data);
}

/* A name whose zygote does not run may be defined all the same. */
static int status_defined(const char *rundir, const char *name) {
    static uint8_t room[WF_DEFINITION_MAX];
    struct wf_definition def;
    struct wf_err err;
    int found = wc_definition_read(rundir, name, room, sizeof room, &def, &err);
    if (found > 0)
        print_definition(&def);
    if (found == 0)
        wf_err_msg(&err, "no zygote is named %s", name);
    return found > 0 ? WC_OK : wc_fail(err.text);
}

int wc_status(int argc, char **argv) {
    static const struct option known[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
    char rundir[WF_RUNDIR_MAX + 1];
    struct wf_err err;
    bool json = false;
    WF_AUTO_FD fd = -1;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (c != 'j')
            return WC_USAGE;
        json = true;
    }
    const char *name = optind < argc ? argv[optind++] : "";
    if (optind < argc)
        return wc_usage("unexpected argument", argv[optind]);
    if (wc_rundir(rundir, &err) < 0)
        return wc_fail(err.text);
    int found = wc_connect(rundir, &fd, &err);
    if (found < 0)
        return wc_fail(err.text);
    if (found && (json || !*name))
        return wc_talk(fd, WF_STATUS, json, name, false);
    if (found && wc_talk(fd, WF_STATUS, 0, name, true) == WC_OK)
        return WC_OK;
    if (json)
        puts("{\"daemon\": null, \"zygotes\": []}");
    else if (!found)
        printf("no daemon is running (%s); the first warmpy starts it\n", rundir);
    return *name && !json ? status_defined(rundir, name) : WC_OK;
}

/* After a stop of everything the daemon ends; when warmctl returns, it has. */
static void await_end(int fd) {
    char byte;
    struct pollfd item = { .fd = fd, .events = POLLIN };
    if (poll(&item, 1, 5000) > 0 && read(fd, &byte, 1) != 0)
        return; /* it has more to say, which nobody asked for */
}

/* Sockets without a daemon: its own, or those of zygotes that outlive it. */
static bool has_sockets(const char *rundir) {
    bool found = false;
    DIR *dir = opendir(rundir);
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));)
        found = entry->d_type == DT_SOCK || strcmp(entry->d_name, "daemon.sock") == 0;
    if (dir)
        closedir(dir);
    return found;
}

int wc_stop(int argc, char **argv) {
    char rundir[WF_RUNDIR_MAX + 1];
    struct wf_err err;
    WF_AUTO_FD fd = -1;
    const char *name = argc > 1 ? argv[1] : "";
    if (argc > 2)
        return wc_usage("unexpected argument", argv[2]);
    if (argc > 1 && !wf_named_valid(name))
        return wc_usage("not a zygote's name:", name);
    if (wc_rundir(rundir, &err) < 0)
        return wc_fail(err.text);
    int defined = *name ? wc_definition_remove(rundir, name, &err) : 0;
    if (defined < 0)
        return wc_fail(err.text);
    int found = wc_connect(rundir, &fd, &err);
    if (found < 0)
        return wc_fail(err.text);
    if (!found &&
        has_sockets(
            rundir)) { /* a new daemon adopts and then stops, or clears away, what is there */
        if (wf_start_daemon(rundir, environ, &fd, &err) < 0)
            return wc_fail(err.text);
        found = 1;
    }
    if (!found) {
        puts(defined ? "no daemon is running; the definition was removed" : "no daemon is running");
        return *name && !defined ? WC_FAILED : WC_OK;
    }
    /* A defined one that does not run is stopped by forgetting it. */
    int status = wc_talk(fd, WF_STOP, (unsigned)defined, name, false);
    if (status == WC_OK && !*name)
        await_end(fd);
    return status;
}
