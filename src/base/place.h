/* Where a process is: everything a worker cannot take over from a caller and must therefore share with it. */
#pragma once

#include "base/err.h"
#include <stdint.h>

enum { WF_NS_MNT, WF_NS_PID, WF_NS_NET, WF_NS_USER, WF_NS_IPC, WF_NS_UTS, WF_NS_CGROUP, WF_NS_TIME, WF_NS_COUNT };

struct wf_place {                 /* fixed layout, compared with memcmp, no padding */
    uint32_t uid[3], gid[3];      /* real, effective, saved */
    uint64_t groups;              /* hash of the supplementary groups */
    uint64_t ns[WF_NS_COUNT];     /* namespace inodes; 0 where the kernel has none */
    uint64_t root_dev, root_ino;  /* of "/" */
    uint64_t caps[3];             /* effective, permitted, inheritable */
    uint32_t no_new_privs;
    uint32_t personality;
};

/* Measures the calling process. Needs /proc; fails when it is not there (the program then runs cold). */
int wf_place_get(struct wf_place *ret, struct wf_err *err);
