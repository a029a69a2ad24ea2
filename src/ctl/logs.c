/* warmctl logs: reads the file itself, so that it also tells why there is no daemon any more. */
#include "ctl/ctl.h"

#include "base/cleanup.h"
#include "base/io.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_MAX (8u << 20) /* the daemon turns it over at 1 MiB */

static int print_bytes(const char *data, size_t size) {
    return fwrite(data, 1, size, stdout) == size ? WC_OK : wc_fail("cannot write to stdout");
}

/* The last `lines` lines of both files together; a file that is not there is empty. */
static int print_tail(int dir, long lines) {
    static const char *const names[] = { "daemon.log.1", "daemon.log" };
    WF_AUTO_BUF all;
    wf_buf_init(&all, 2 * LOG_MAX);
    for (int i = 0; i < 2; i++) {
        char *data;
        size_t size;
        WF_AUTO_FD fd = openat(dir, names[i], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        struct wf_err err;
        if (fd < 0 && errno == ENOENT)
            continue;
        if (fd < 0 || wf_read_file(dir, names[i], LOG_MAX, &data, &size) < 0) {
            wf_err_sys(&err, "read", names[i]);
            return wc_fail(err.text);
        }
        wf_buf_add(&all, data, size);
        free(data);
    }
    /* Back over `lines` ends of lines; the very last one ends the last line, and is none of them.
     */
    size_t at = lines > 0 && all.size > 0 ? all.size - 1 : all.size;
    while (at > 0 && at < all.size && !(all.data[at - 1] == '\n' && --lines == 0))
        at--;
    return all.size ? print_bytes((const char *)all.data + at, all.size - at) : WC_OK;
}

/* Copies what `fd` has beyond its position. */
static int print_rest(int fd) {
    char block[16384];
    for (ssize_t size; (size = read(fd, block, sizeof block)) > 0;)
        if (print_bytes(block, (size_t)size) != WC_OK)
            return WC_FAILED;
    return fflush(stdout) == 0 ? WC_OK : wc_fail("cannot write to stdout");
}

static bool same_file(int fd, int dir) {
    struct stat a, b;
    return fd >= 0 && fstat(fd, &a) == 0 && fstatat(dir, "daemon.log", &b, 0) == 0 &&
           a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* Until interrupted. The directory is watched, not the file: that sees the file turn over, and
 * appear. */
static int follow(const char *rundir, int dir, int fd) {
    char events[4096];
    struct wf_err err;
    WF_AUTO_FD watch = inotify_init1(IN_CLOEXEC);
    WF_AUTO_FD current = fd;
    if (watch < 0 ||
        inotify_add_watch(watch, rundir, IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM) < 0) {
        wf_err_sys(&err, "inotify_add_watch", rundir);
        return wc_fail(err.text);
    }
    for (;;) {
        if (current >= 0 && print_rest(current) != WC_OK)
            return WC_FAILED;
        if (!same_file(current, dir)) {
            wf_close(&current);
            current = openat(dir, "daemon.log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
            if (current >= 0)
                continue;
        }
        if (read(watch, events, sizeof events) < 0 && errno != EINTR) {
            wf_err_sys(&err, "read", "inotify");
            return wc_fail(err.text);
        }
    }
}

int wc_logs(int argc, char **argv) {
    static const struct option known[] = { { "follow", no_argument, NULL, 'f' },
                                           { "lines", required_argument, NULL, 'n' },
                                           { 0 } };
    char rundir[WF_RUNDIR_MAX + 1], *end;
    struct wf_err err;
    bool following = false;
    long lines = 100;
    for (int c; (c = getopt_long(argc, argv, "fn:", known, NULL)) != -1;) {
        if (c == 'f') {
            following = true;
        } else if (c == 'n') {
            lines = strtol(optarg, &end, 10);
            if (end == optarg || *end || lines < 0)
                return wc_usage("not a number of lines:", optarg);
        } else {
            return WC_USAGE;
        }
    }
    if (optind < argc)
        return wc_usage("unexpected argument", argv[optind]);
    WF_AUTO_FD dir = -1;
    if (wc_rundir(rundir, &err) < 0 || wf_rundir_open(rundir, false, &dir, &err) < 0)
        return wc_fail(err.text);
    /* Opened before the tail is printed, so that nothing falls between the two. */
    WF_AUTO_FD fd = openat(dir, "daemon.log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && !following) {
        wf_err_sys(&err, "open", "daemon.log");
        return wc_fail(err.text);
    }
    if (fd >= 0)
        lseek(fd, 0, SEEK_END);
    int status = print_tail(dir, lines);
    fflush(stdout);
    return status == WC_OK && following ? follow(rundir, dir, wf_steal_fd(&fd)) : status;
}
