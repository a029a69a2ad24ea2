#include "base/place.h"

#include "base/hash.h"
#include "base/cleanup.h"
#include "base/io.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(struct wf_place) == 24 + 8 + 8 * WF_NS_COUNT + 16 + 24 + 8,
               "wf_place has padding");

/* As in <linux/capability.h>, which musl's compiler wrapper does not find. */
#define CAPABILITY_VERSION_3 0x20080522u
struct cap_header {
    uint32_t version;
    int pid;
};
struct cap_data {
    uint32_t effective, permitted, inheritable;
};

static int get_ids(struct wf_place *p, struct wf_err *err) {
    uid_t uid[3];
    gid_t gid[3];
    if (getresuid(&uid[0], &uid[1], &uid[2]) < 0)
        return wf_err_sys(err, "getresuid", NULL);
    if (getresgid(&gid[0], &gid[1], &gid[2]) < 0)
        return wf_err_sys(err, "getresgid", NULL);
    for (int i = 0; i < 3; i++) {
        p->uid[i] = uid[i];
        p->gid[i] = gid[i];
    }
    return 0;
}

/* The kernel keeps the groups sorted, so that the same set always gives the same hash. */
static int get_groups(struct wf_place *p, struct wf_err *err) {
    gid_t few[64], *list = few;
    int count = getgroups(sizeof few / sizeof few[0], few);
    if (count < 0 && errno == EINVAL) { /* more than fit */
        count = getgroups(0, NULL);
        list = count > 0 ? malloc((size_t)count * sizeof *list) : NULL;
        count = list ? getgroups(count, list) : -1;
    }
    if (count >= 0) {
        struct wf_hash h;
        uint8_t digest[16];
        wf_hash_init(&h);
        wf_hash_field(&h, list, (size_t)count * sizeof *list);
        wf_hash_done(&h, digest);
        memcpy(&p->groups, digest, sizeof p->groups);
    }
    int ret = count < 0 ? wf_err_sys(err, "getgroups", NULL) : 0;
    if (list != few)
        free(list);
    return ret;
}

/* "net:[4026531833]", from a magic link: cheaper than stat, which opens what the link stands for.
 * Returns 1, 0 when the kernel has no such namespace, -1. */
static int read_namespace(const char *path, uint64_t *ret, struct wf_err *err) {
    char text[64];
    ssize_t size = readlink(path, text, sizeof text);
    if (size < 0 && errno == ENOENT && access("/proc/self/ns", F_OK) == 0)
        return 0;
    if (size < 0)
        return wf_err_sys(err, "readlink", path);
    uint64_t inode = 0;
    const char *end = text + size, *at = memchr(text, '[', (size_t)size);
    for (at = at ? at + 1 : end; at < end && *at >= '0' && *at <= '9'; at++)
        inode = inode * 10 + (uint64_t)(*at - '0');
    if (at == end || *at != ']' || inode == 0)
        return wf_err_msg(err, "readlink %s: %.*s is not a namespace", path, (int)size, text);
    *ret = inode;
    return 1;
}

/* The kernel's struct statx: that of some C libraries ends before mnt_id. */
struct kernel_statx {
    uint32_t mask, blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, pad;
    uint64_t ino, size, blocks, attributes_mask;
    uint64_t times[8];
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t mnt_id, spare[13];
};
_Static_assert(sizeof(struct kernel_statx) == 256, "struct statx is 256 bytes");

#define WANT_INO 0x100u
#define WANT_MNT_ID 0x1000u        /* Linux 5.8: reused, but not while the mount exists */
#define WANT_MNT_ID_UNIQUE 0x4000u /* Linux 6.8: never reused; comes in the same field */

static int get_root(struct wf_place *p, struct wf_err *err) {
    struct kernel_statx st;
    if (syscall(SYS_statx, AT_FDCWD, "/", 0, WANT_INO | WANT_MNT_ID | WANT_MNT_ID_UNIQUE, &st) < 0)
        return wf_err_sys(err, "statx", "/");
    p->root_dev = (uint64_t)st.dev_major << 32 | st.dev_minor;
    p->root_ino = st.ino;
    if (st.mask & (WANT_MNT_ID | WANT_MNT_ID_UNIQUE)) {
        p->ns[WF_NS_MNT] = st.mnt_id;
        return 0;
    }
    return read_namespace("/proc/self/ns/mnt", &p->ns[WF_NS_MNT], err) < 0 ? -1 : 0;
}

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

static int get_network(int fd, uint64_t *ret, struct wf_err *err) {
    WF_AUTO_FD own = fd < 0 ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0 && own < 0)
        return wf_err_sys(err, "socket", "AF_UNIX");
    socklen_t size = sizeof *ret;
    if (getsockopt(fd < 0 ? own : fd, SOL_SOCKET, SO_NETNS_COOKIE, ret, &size) == 0)
        return 0;
    return read_namespace("/proc/self/ns/net", ret, err) < 0 ? -1 : 0;
}

int wf_place_add_namespaces(struct wf_place *p, int fd, struct wf_err *err) {
    uint64_t net = 0, user = 0, ipc = 0, uts = 0, time = 0;
    if (get_network(fd, &net, err) < 0 || read_namespace("/proc/self/ns/user", &user, err) < 0 ||
        read_namespace("/proc/self/ns/ipc", &ipc, err) < 0 ||
        read_namespace("/proc/self/ns/uts", &uts, err) < 0 ||
        read_namespace("/proc/self/ns/time", &time, err) < 0)
        return -1;
    p->ns[WF_NS_NET] = net;
    p->ns[WF_NS_USER] = user;
    p->ns[WF_NS_IPC] = ipc;
    p->ns[WF_NS_UTS] = uts;
    p->ns[WF_NS_TIME] = time;
    return 0;
}

static int get_privileges(struct wf_place *p, struct wf_err *err) {
    struct cap_header head = { .version = CAPABILITY_VERSION_3 };
    struct cap_data caps[2] = { 0 };
    if (syscall(SYS_capget, &head, caps) < 0)
        return wf_err_sys(err, "capget", NULL);
    p->caps[0] = (uint64_t)caps[1].effective << 32 | caps[0].effective;
    p->caps[1] = (uint64_t)caps[1].permitted << 32 | caps[0].permitted;
    p->caps[2] = (uint64_t)caps[1].inheritable << 32 | caps[0].inheritable;
    int locked = prctl(PR_GET_NO_NEW_PRIVS, 0L, 0L, 0L, 0L);
    if (locked < 0)
        return wf_err_sys(err, "prctl", "PR_GET_NO_NEW_PRIVS");
    p->no_new_privs = (uint32_t)locked;
    int persona = personality(0xffffffff);
    if (persona == -1)
        return wf_err_sys(err, "personality", NULL);
    p->personality = (uint32_t)persona;
    return 0;
}

/* The number that a file in /proc has behind `label`. */
static int read_number(const char *path, const char *label, int64_t *ret, struct wf_err *err) {
    char text[8192];
    if (wf_read_text(AT_FDCWD, path, text, sizeof text) <= 0)
        return wf_err_sys(err, "read", path);
    const char *at = strstr(text, label);
    if (at == NULL)
        return wf_err_msg(err, "read %s: no %s", path, label);
    at += strlen(label);
    bool negative = *at == '-';
    int64_t value = 0;
    for (at += negative; *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (*at - '0');
    *ret = negative ? -value : value;
    return 0;
}

int wf_marks_get(struct wf_marks *ret, struct wf_err *err) {
    int64_t adj = 0, login = UINT32_MAX;
    if (read_number("/proc/self/oom_score_adj", "", &adj, err) < 0)
        return -1;
    read_number("/proc/self/loginuid", "", &login, NULL);
    ret->oom_score_adj = (int32_t)adj;
    ret->loginuid = (uint32_t)login;
    return 0;
}

int wf_filters_get(uint32_t *ret, struct wf_err *err) {
    *ret = 0;
    int mode = prctl(PR_GET_SECCOMP, 0L, 0L, 0L, 0L); /* to ask may be forbidden: by a filter */
    if (mode == 0 || (mode < 0 && errno == EINVAL))   /* a kernel without seccomp */
        return 0;
    static const char label[] = "\nSeccomp_filters:\t"; /* Linux 5.9 */
    int64_t own, first;
    if (read_number("/proc/self/status", label, &own, NULL) < 0 ||
        read_number("/proc/1/status", label, &first, NULL) < 0 || own != first)
        return wf_err_msg(err, "a seccomp filter of its own");
    *ret = (uint32_t)own;
    return 0;
}

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62 /* Linux 5.14 */
#endif
#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66 /* Linux 6.3 */
#endif
#define USUAL_TIMER_SLACK 50000 /* ns */

int wf_rules_check(struct wf_err *err) {
    uint64_t cookie = 0;
    int slack = prctl(PR_GET_TIMERSLACK, 0L, 0L, 0L, 0L);
    const char *why = slack >= 0 && slack != USUAL_TIMER_SLACK ? "another timer slack" : NULL;
    if (prctl(PR_GET_MDWE, 0L, 0L, 0L, 0L) > 0)
        why = "memory may not be made executable (PR_SET_MDWE)";
    if (prctl(PR_SCHED_CORE, 0L, 0L, 0L, (long)(uintptr_t)&cookie) == 0 && cookie != 0)
        why = "core scheduling";
    return why == NULL ? 0 : wf_err_msg(err, "%s", why);
}

int wf_oom_score_adj_set(int32_t value) {
    char text[16];
    size_t size = wf_fmt(text, sizeof text, "%d", (int)value);
    WF_AUTO_FD fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -1 : wf_write_full(fd, text, size);
}

int wf_place_get_quick(struct wf_place *ret, struct wf_err *err) {
    struct wf_place p = { 0 };
    if (get_ids(&p, err) < 0 || get_groups(&p, err) < 0 || get_root(&p, err) < 0 ||
        get_privileges(&p, err) < 0)
        return -1;
    *ret = p;
    return 0;
}

int wf_place_get(struct wf_place *ret, struct wf_err *err) {
    struct wf_place p;
    if (wf_place_get_quick(&p, err) < 0 || wf_place_add_namespaces(&p, -1, err) < 0)
        return -1;
    *ret = p;
    return 0;
}

bool wf_many_cpus(const void *mask, size_t size) {
    const unsigned char *byte = mask;
    unsigned count = 0;
    for (size_t i = 0; i < size; i++)
        count += (unsigned)__builtin_popcount(byte[i]);
    return count > 1;
}
