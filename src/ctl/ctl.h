/* warmctl: the commands. Each gets its own arguments (argv[0] is its name) and returns the exit
 * status. */
#pragma once

#include "base/err.h"
#include "base/rundir.h"
#include "wire/wire.h"
#include <stdbool.h>

enum { WC_OK = 0, WC_FAILED = 1, WC_USAGE = 2 };

int wc_start(int argc, char **argv);
int wc_warm(int argc, char **argv);
int wc_status(int argc, char **argv);
int wc_stop(int argc, char **argv);
int wc_logs(int argc, char **argv);
int wc_audit(int argc, char **argv); /* returns only when it fails */

/* Prints "warmctl: TEXT" to stderr and returns WC_FAILED. */
int wc_fail(const char *text);
/* The same with a hint at --help, and WC_USAGE. */
int wc_usage(const char *format, const char *argument);

int wc_rundir(char ret_path[WF_RUNDIR_MAX + 1], struct wf_err *err);

/* Connects to the daemon. 1: connected, 0: there is none, -1: something is wrong, such as a runtime
 * directory that is not ours alone. */
int wc_connect(const char *rundir, int *ret_fd, struct wf_err *err);

/* Sends a text message and prints the answer: to stdout when it is good, else as an error, unless
 * `quiet`. Returns the exit status. */
int wc_talk(int fd, enum wf_type type, unsigned code, const char *text, bool quiet);

/* Waits for the daemon's WF_REPLY; notes on the way go to `progress` (text NULL: a second has
 * passed). Prints nothing. 0 with *ret_code and *ret_text (malloc'd, caller's), or -1. */
int wc_await(int fd, void (*progress)(const char *text), unsigned *ret_code, char **ret_text,
             struct wf_err *err);

/* definition.c: <rundir>/zygotes/NAME. */
int wc_definition_write(const char *rundir, const struct wf_definition *def, struct wf_err *err);
/* 1: removed, 0: there was none, -1. */
int wc_definition_remove(const char *rundir, const char *name, struct wf_err *err);
/* 1: read into `room`, to which *ret points; 0: there is none; -1. */
int wc_definition_read(const char *rundir, const char *name, uint8_t *room, size_t size,
                       struct wf_definition *ret, struct wf_err *err);
