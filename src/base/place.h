/* Where a process is: everything a worker cannot take over from a caller and must therefore share
 * with it. */
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WF_NS_MNT,
    WF_NS_PID,
    WF_NS_NET,
    WF_NS_USER,
    WF_NS_IPC,
    WF_NS_UTS,
    WF_NS_CGROUP,
    WF_NS_TIME,
    WF_NS_COUNT
};

struct wf_place {             /* fixed layout, compared with memcmp, no padding */
    uint32_t uid[3], gid[3];  /* real, effective, saved */
    uint64_t groups;          /* hash of the supplementary groups */
    uint64_t ns[WF_NS_COUNT]; /* identity of each namespace, see below; 0 where none is measured */
    uint64_t root_dev, root_ino; /* of "/" */
    uint64_t caps[3];            /* effective, permitted, inheritable */
    uint32_t no_new_privs;
    uint32_t personality;
};

/* Measures the calling process: the two halves below, one after the other. Needs /proc; fails when
 * it is not there (the program then runs cold). */
int wf_place_get(struct wf_place *ret, struct wf_err *err);

/* The half that costs next to nothing (4 us): all but the namespaces, of which only WF_NS_MNT is
 * set and the others are 0. This is what a context key should hash: the other half is then measured
 * while the worker wakes up from the connect. */
int wf_place_get_quick(struct wf_place *ret, struct wf_err *err);

/* The half that takes long (25 us: /proc makes an inode for each): the remaining namespaces. `fd`
 * is any socket that the calling process made itself, such as its connection, or -1. Fields are
 * untouched on failure.
 *
 * What identifies a namespace, among processes that live at the same time:
 * WF_NS_MNT is the mount that "/" is, from statx: a mount belongs to one namespace only.
 * WF_NS_NET is the socket's cookie (Linux 5.14), else the inode in /proc/self/ns.
 * WF_NS_USER, WF_NS_IPC, WF_NS_UTS, WF_NS_TIME are the inodes in /proc/self/ns.
 * WF_NS_PID is 0: wf_channel_connect and wf_channel_check_peer both refuse a peer whose pid they
 * cannot see, and two processes that see each other are in the same pid namespace. WF_NS_CGROUP is
 * 0: it only shapes how a process sees its cgroup, which is the worker's own in any case. */
int wf_place_add_namespaces(struct wf_place *p, int fd, struct wf_err *err);

/* What was noted of a process, and its children inherit. */
struct wf_marks {
    int32_t oom_score_adj; /* how readily it is killed when memory runs out: -1000 to 1000 */
    uint32_t loginuid;     /* who has logged in (audit; os.getlogin() asks for it); ~0: nobody */
    uint32_t filters;      /* seccomp filters, see wf_filters_get */
};
int wf_marks_get(struct wf_marks *ret, struct wf_err *err); /* all but the filters */

/* How many seccomp filters this process runs under. What they do the kernel tells nobody; but those
 * of the first process in the pid namespace were given to all that came after it, as in a container
 * of Docker's. A process with filters of its own, or where that cannot be seen: -1. */
int wf_filters_get(uint32_t *ret, struct wf_err *err);

/* -1: this process has been given something by prctl() that its children and what it executes keep,
 * and that can neither be had from another process nor handed to one. */
int wf_rules_check(struct wf_err *err);

int wf_oom_score_adj_set(int32_t value); /* lowering it takes privileges */

/* Whether two processes can run at once on the processors of this mask (sched_getaffinity). */
bool wf_many_cpus(const void *mask, size_t size);
