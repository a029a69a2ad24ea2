/* What the probes share. Each hands its facts to `each`; -1 with `err` when it could not look. */
#pragma once

#include "audit/audit.h"

struct wa_sink {
    wa_each each;
    void *arg;
};

int wa_tasks(const struct wa_sink *sink, struct wf_err *err);
int wa_descriptors(const struct wa_sink *sink, struct wf_err *err);
int wa_mappings(const struct wa_sink *sink, struct wf_err *err);
int wa_signals(const struct wa_sink *sink, struct wf_err *err);
int wa_timers(const struct wa_sink *sink, struct wf_err *err);
int wa_children(const struct wa_sink *sink, struct wf_err *err);

/* The two ways of each: the second is what kernels without the first get, and for tests. */
int wa_mappings_query(const struct wa_sink *sink, int fd); /* 1: this kernel cannot */
int wa_mappings_text(const struct wa_sink *sink, int fd, struct wf_err *err);
int wa_timers_listed(const struct wa_sink *sink); /* 1: this kernel does not list them */
int wa_timers_counted(const struct wa_sink *sink, struct wf_err *err);

/* sockets.c: one socket. */
void wa_socket(const struct wa_sink *sink, int fd);

void wa_say(const struct wa_sink *sink, enum wa_kind kind, long id, const char *name,
            const char *detail);

/* Calls `each` with every numeric entry of a directory of /proc, which it is given open, until one
 * returns -1. -1 with `err` when the directory cannot be read. */
int wa_for_each_number(const char *path, int (*each)(void *arg, int dirfd, long number), void *arg,
                       struct wf_err *err);
