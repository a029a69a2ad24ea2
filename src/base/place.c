#include "base/place.h"

#include "base/hash.h"
#include "base/io.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(struct wf_place) == 24 + 8 + 8 * WF_NS_COUNT + 16 + 24 + 8, "wf_place has padding");

/* As in <linux/capability.h>, which musl's compiler wrapper does not find. */
#define CAPABILITY_VERSION_3 0x20080522u
struct cap_header { uint32_t version; int pid; };
struct cap_data { uint32_t effective, permitted, inheritable; };

static const char ns_names[WF_NS_COUNT][8] = {
    [WF_NS_MNT] = "mnt", [WF_NS_PID] = "pid", [WF_NS_NET] = "net",       [WF_NS_USER] = "user",
    [WF_NS_IPC] = "ipc", [WF_NS_UTS] = "uts", [WF_NS_CGROUP] = "cgroup", [WF_NS_TIME] = "time",
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

static int get_namespaces(struct wf_place *p, struct wf_err *err) {
    int dir = open("/proc/self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return wf_err_sys(err, "open", "/proc/self/ns");
    int ret = 0;
    for (int i = 0; i < WF_NS_COUNT && ret == 0; i++) {
        struct stat st;
        if (fstatat(dir, ns_names[i], &st, 0) == 0)
            p->ns[i] = st.st_ino;
        else if (errno == ENOENT)
            p->ns[i] = 0;
        else
            ret = wf_err_sys(err, "stat /proc/self/ns", ns_names[i]);
    }
    wf_close(&dir);
    return ret;
}

static int get_root(struct wf_place *p, struct wf_err *err) {
    struct stat st;
    if (stat("/", &st) < 0)
        return wf_err_sys(err, "stat", "/");
    p->root_dev = st.st_dev;
    p->root_ino = st.st_ino;
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

int wf_place_get(struct wf_place *ret, struct wf_err *err) {
    struct wf_place p = { 0 };
    if (get_ids(&p, err) < 0 || get_groups(&p, err) < 0 || get_namespaces(&p, err) < 0 || get_root(&p, err) < 0 ||
        get_privileges(&p, err) < 0)
        return -1;
    *ret = p;
    return 0;
}
