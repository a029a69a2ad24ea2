/* Facts about the calling process that matter when it forks, as the kernel has them.
 *
 * A probe looks at one class of hazards and hands each fact to the caller; it judges nothing. What
 * a fact means is the caller's policy: a zygote and `warmfork.audit()` have their own. A probe that
 * cannot look hands over a WA_UNSEEN, so that "no facts" always means "nothing there". Nothing is
 * changed in the process, and no Python is needed. Not for signal handlers. */
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Probes, to be combined. */
enum {
    WA_PROBE_TASKS = 1 << 0,
    WA_PROBE_DESCRIPTORS = 1 << 1,
    WA_PROBE_MAPPINGS = 1 << 2,
    WA_PROBE_SIGNALS = 1 << 3,
    WA_PROBE_TIMERS = 1 << 4,
    WA_PROBE_CHILDREN = 1 << 5,
    WA_PROBE_ALL = (1 << 6) - 1,
};

enum wa_kind {
    WA_UNSEEN,  /* name: the probe; detail: why it cannot see */
    WA_TASK,    /* id: thread id, of all but the calling thread; name: the kernel's; detail: path of
                   the    library that it waits in, or "" */
    WA_EPOLL,   /* descriptors; id: number; name: what /proc/self/fd says */
    WA_INOTIFY, /* also fanotify */
    WA_IO_URING,
    WA_TIMERFD,
    WA_GPU,
    WA_PRIVILEGED, /* detail: which right it carries */
    WA_FILE,       /* regular file or directory; detail: "read", "write" or "path" */
    WA_OTHER,      /* pipes, terminals, devices, memfds, ... */
    WA_LISTENING,  /* sockets; name: "tcp", "unix", ...; detail: own address */
    WA_CONNECTED,  /* detail: peer's address; size: pid of a peer that is on this machine, or 0 */
    WA_UNCONNECTED,
    WA_FILE_LOCK, /* id: descriptor; name: file; detail: "flock", "posix" or "ofd" */
    WA_SHARED,    /* writable shared mapping; id: 0; name: file, or what the kernel calls it; from,
                     size: where */
    WA_PENDING,   /* signals; id: number */
    WA_BLOCKED,   /* in the calling thread */
    WA_ITIMER,    /* id: which; name: "ITIMER_REAL", ... */
    WA_POSIX_TIMER, /* id: the kernel's */
    WA_CHILD,       /* id: pid, or 0 when only that there are children is known; name: its
                       command */
};

struct wa_fact {
    enum wa_kind kind;
    long id;
    const char *name, *detail; /* never NULL; valid during the call */
    uint64_t from, size;
};

typedef void (*wa_each)(void *arg, const struct wa_fact *fact);

/* Runs the given probes. `each` must not fork and must not add or remove descriptors. */
void wa_probe(unsigned probes, wa_each each, void *arg);

/* The kernel's id of a thread of this process, from its pthread_t, as Python's
 * `threading.get_ident()` has it; 0 when that cannot be told. */
pid_t wa_task_of(uintptr_t pthread);

/* Name of a probe, as in WA_UNSEEN. */
const char *wa_probe_name(unsigned probe);
