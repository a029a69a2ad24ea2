#include "base/cleanup.h"
#include "base/place.h"
#include "base/rundir.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct vars {
    const char *warmfork, *xdg;
};

static const char *get_var(void *arg, const char *name) {
    struct vars *v = arg;
    return test_same(name, "WARMFORK_RUNTIME_DIR") ? v->warmfork
           : test_same(name, "XDG_RUNTIME_DIR")    ? v->xdg
                                                   : NULL;
}

static void check_rundir(const char *warmfork, const char *xdg, const char *want) {
    struct vars v = { warmfork, xdg };
    char path[WF_RUNDIR_MAX + 1] = "untouched";
    struct wf_err err;
    if (want) {
        CHECK_NUMBER(wf_rundir_path(get_var, &v, path, &err), 0);
        CHECK_STRING(path, want);
    } else {
        CHECK_NUMBER(wf_rundir_path(get_var, &v, path, &err), -1);
        CHECK_STRING(path, "untouched");
    }
}

TEST(the_runtime_directory_comes_from_the_environment) {
    char own[64], exact[WF_RUNDIR_MAX + 2];
    snprintf(own, sizeof own, "/tmp/warmfork-%u", geteuid());
    memset(exact, 'x', sizeof exact);
    exact[0] = '/';
    check_rundir("/a", "/b", "/a");
    check_rundir("", "/b", "/b/warmfork");
    check_rundir(NULL, "/b", "/b/warmfork");
    check_rundir(NULL, "", own);
    check_rundir(NULL, NULL, own);
    check_rundir("relative", "/b", NULL);
    check_rundir(NULL, "./b", NULL);
    exact[WF_RUNDIR_MAX + 1] = '\0';
    check_rundir(exact, NULL, NULL);
    exact[WF_RUNDIR_MAX] = '\0';
    check_rundir(exact, NULL, exact);
    check_rundir(NULL, exact, NULL);
}

static const char *in_dir(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    return path;
}

static void check_refused(const char *name, bool create, const char *reason) {
    struct wf_err err;
    int fd = -7;
    CHECK_NUMBER(wf_rundir_open(in_dir(name), create, &fd, &err), -1);
    CHECK_NUMBER(fd, -7);
    if (!strstr(err.text, reason) || !strstr(err.text, in_dir(name)))
        test_fail(__FILE__, __LINE__, "%s: expected %s", err.text, reason);
}

TEST(the_runtime_directory_is_made_when_asked) {
    int fd;
    struct stat st;
    check_refused("d", false, "No such file or directory");
    umask(0777);
    CHECK_NUMBER(wf_rundir_open(in_dir("d"), true, &fd, NULL), 0);
    CHECK_NUMBER(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK(fstat(fd, &st) == 0);
    CHECK_NUMBER(st.st_mode & 07777, 0700);
    close(fd);
    CHECK_NUMBER(wf_rundir_open(in_dir("d"), false, &fd, NULL), 0);
    close(fd);
    check_refused("no/d", true, "mkdir");
}

TEST(an_unsafe_runtime_directory_is_refused) {
    static const mode_t modes[] = { 0755, 0710, 0701, 0770, 01777 };
    CHECK(mkdir(in_dir("d"), 0700) == 0);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        CHECK(chmod(in_dir("d"), modes[i]) == 0);
        check_refused("d", true, "open to others");
    }
    CHECK(chmod(in_dir("d"), 0700) == 0);
    CHECK(symlink("d", in_dir("link")) == 0);
    check_refused("link", true, "Not a directory");
    CHECK(symlink("gone", in_dir("dangling")) == 0);
    check_refused("dangling", true, "Not a directory");
    CHECK(mknod(in_dir("file"), S_IFREG | 0600, 0) == 0);
    check_refused("file", true, "Not a directory");
}

TEST(the_runtime_directory_of_another_user_is_refused) {
    if (geteuid() != 0)
        test_skip("needs root");
    CHECK(mkdir(in_dir("d"), 0700) == 0 && chown(in_dir("d"), 65534, 65534) == 0);
    check_refused("d", true, "owned by uid 65534");
}

static int open_below(void *arg) {
    struct wf_err err;
    int fd;
    if (setgroups(0, NULL) < 0 || setresuid(65534, 65534, 65534) < 0)
        return 2;
    return wf_rundir_open(arg, true, &fd, &err) == -1 && err.code == EACCES ? 0 : 1;
}

TEST(an_unreadable_runtime_directory_is_refused) {
    if (geteuid() != 0)
        test_skip("needs root");
    CHECK(mkdir(in_dir("d"), 0700) == 0);
    CHECK_NUMBER(test_wait(test_fork(open_below, (void *)in_dir("d/below"))), 0);
}

static int enter_namespace(void *flag) { return unshare(*(int *)flag); }
static int drop_groups(void *arg) { return setgroups(1, arg); }
static int drop_uid(void *arg) { return setresuid((uid_t)-1, *(uid_t *)arg, (uid_t)-1); }

static int drop_privileges(void *arg) {
    (void)arg;
    return prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L);
}

struct change {
    int (*make)(void *arg);
    void *arg;
};

/* 0: the place differs after the change, 1: it does not, 2: the change is not possible here. */
static int measure_twice(void *arg) {
    struct change *change = arg;
    struct wf_place before, after;
    if (wf_place_get(&before, NULL) < 0)
        return 3;
    if (change->make(change->arg) < 0)
        return 2;
    return wf_place_get(&after, NULL) == 0 && memcmp(&before, &after, sizeof before) == 0;
}

TEST(a_place_is_the_same_when_measured_again) {
    struct wf_place a, b;
    struct wf_err err;
    memset(&a, 1, sizeof a);
    memset(&b, 2, sizeof b);
    if (wf_place_get(&a, &err) < 0)
        test_fail(__FILE__, __LINE__, "%s", err.text);
    CHECK(wf_place_get_quick(&b, &err) == 0);
    WF_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(wf_place_add_namespaces(&b, fd, &err) == 0);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
    CHECK(a.uid[1] == geteuid() && a.gid[0] == getgid() && a.ns[WF_NS_USER] && a.root_ino);
}

TEST(another_namespace_is_another_place) {
    static int flags[] = { CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWUSER };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        struct change change = { enter_namespace, &flags[i] };
        int result = test_wait(test_fork(measure_twice, &change));
        if (result == 2)
            test_skip("unshare is not permitted");
        if (result != 0)
            test_fail(__FILE__, __LINE__, "unshare %x: %d", flags[i], result);
    }
}

TEST(other_ids_and_rights_are_another_place) {
    static gid_t group = 12345;
    static uid_t user = 65534;
    struct change changes[] = { { drop_privileges, NULL },
                                { drop_groups, &group },
                                { drop_uid, &user } };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        int result = test_wait(test_fork(measure_twice, &changes[i]));
        if (result == 2)
            test_skip("needs root");
        CHECK_NUMBER(result, 0);
    }
}

static int measure_without_proc(void *arg) {
    struct wf_place p;
    struct wf_err err;
    if (chroot(arg) < 0)
        return 2;
    return wf_place_get(&p, &err) == -1 && err.code == ENOENT ? 0 : 1;
}

TEST(no_proc_is_an_error) {
    int result = test_wait(test_fork(measure_without_proc, (void *)test_dir()));
    if (result == 2)
        test_skip("needs root");
    CHECK_NUMBER(result, 0);
}
