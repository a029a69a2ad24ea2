#include "base/cleanup.h"
#include "base/rundir.h"
#include "raw.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

TEST(a_listener_appears_ready_and_replaces_another) {
    struct wf_err err;
    WF_AUTO_FD first = -1;
    WF_AUTO_FD second = -1;
    WF_AUTO_FD client = -1;
    uint32_t pid;
    CHECK_NUMBER(wf_channel_connect(test_dir(), "s", &client, &err), -1);
    CHECK_NUMBER(err.code, ENOENT);
    umask(0777);
    CHECK_NUMBER(wf_channel_listen(test_dir(), "s", 5, &first, NULL), 0);
    CHECK_NUMBER(wf_channel_listen(test_dir(), "s", 5, &second, NULL), 0);
    CHECK_NUMBER(fcntl(second, F_GETFD), FD_CLOEXEC);
    CHECK_NUMBER(wf_channel_connect(test_dir(), "s", &client, NULL), 0);
    CHECK_NUMBER(fcntl(client, F_GETFD), FD_CLOEXEC);
    WF_AUTO_FD accepted = accept4(second, NULL, NULL, SOCK_CLOEXEC);
    CHECK_NUMBER(wf_channel_check_peer(accepted, &pid, NULL), 0);
    CHECK_NUMBER(pid, getpid());
    CHECK_NUMBER(wf_channel_check_peer(client, NULL, NULL), 0);
    wf_close(&second);
    wf_close(&client);
    CHECK_NUMBER(wf_channel_connect(test_dir(), "s", &client, &err), -1);
    CHECK_NUMBER(err.code, ECONNREFUSED);
}

TEST(a_socket_name_that_does_not_fit_is_refused) {
    char dir[WF_RUNDIR_MAX + 1], name[100];
    struct wf_err err;
    int fd = -7;
    memset(name, 'n', sizeof name);
    name[99] = '\0';
    CHECK_NUMBER(wf_channel_connect(test_dir(), name, &fd, &err), -1);
    CHECK(strstr(err.text, "too long"));
    CHECK_NUMBER(wf_channel_listen(test_dir(), name, 5, &fd, &err), -1);
    CHECK_NUMBER(wf_channel_listen("/nowhere", "s", 5, &fd, &err), -1);
    CHECK_NUMBER(err.code, ENOENT);
    CHECK_NUMBER(fd, -7);
    /* the longest directory still takes the longest name */
    memset(dir, 'd', sizeof dir);
    size_t used = (size_t)snprintf(dir, sizeof dir, "%s/", test_dir());
    dir[used] = 'd';
    dir[WF_RUNDIR_MAX] = '\0';
    CHECK(mkdir(dir, 0700) == 0);
    wf_route_name((const uint8_t *)"0123456789abcdef", 3, true, name);
    CHECK_NUMBER(wf_channel_listen(dir, name, 5, &fd, NULL), 0);
    close(fd);
}

TEST(a_failed_listen_leaves_nothing_behind) {
    char path[128];
    int fd = -7;
    snprintf(path, sizeof path, "%s/s", test_dir());
    CHECK(mkdir(path, 0700) == 0); /* rename cannot replace a directory by a socket */
    CHECK_NUMBER(wf_channel_listen(test_dir(), "s", 5, &fd, NULL), -1);
    CHECK(rmdir(path) == 0 && rmdir(test_dir()) == 0);
    CHECK(mkdir(test_dir(), 0700) == 0);
}

static int become_nobody(void) {
    return setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
                   setresuid(65534, 65534, 65534) == 0
               ? 0
               : -1;
}

/* Connects as another user, with a connect that does not look at whose socket it is. */
static int connect_as_nobody(void *arg) {
    struct wf_err err;
    int fd;
    if (become_nobody() < 0)
        return 2;
    return wf_channel_connect(arg, "s", &fd, &err) == -1 && strstr(err.text, "belongs to uid 0")
               ? 0
               : 1;
}

TEST(a_peer_of_another_user_is_refused_by_both) {
    if (geteuid() != 0)
        test_skip("needs root");
    char path[128];
    struct wf_err err;
    WF_AUTO_FD fd = -1;
    snprintf(path, sizeof path, "%s/s", test_dir());
    CHECK_NUMBER(wf_channel_listen(test_dir(), "s", 5, &fd, NULL), 0);
    CHECK(chmod(test_dir(), 0711) == 0 && chmod(path, 0666) == 0);
    int pid = test_fork(connect_as_nobody, (void *)test_dir());
    WF_AUTO_FD accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    CHECK_NUMBER(wf_channel_check_peer(accepted, NULL, &err), -1);
    CHECK_STRING(err.text, "peer of connection: belongs to uid 65534");
    CHECK_NUMBER(test_wait(pid), 0);
}

static int connect_from_inside(void *arg) {
    struct wf_err err;
    int fd;
    return wf_channel_connect(arg, "s", &fd, &err) == -1 && strstr(err.text, "pid namespace") ? 0
                                                                                              : 1;
}

static int listen_from_inside(void *arg) {
    struct wf_err err;
    int fd;
    if (wf_channel_listen(test_dir(), "inner", 5, &fd, NULL) < 0)
        return 2;
    wf_close(arg); /* end of file: ready */
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    return wf_channel_check_peer(accepted, NULL, &err) == -1 && strstr(err.text, "pid namespace");
}

static int enter_and(void *arg) {
    if (unshare(CLONE_NEWPID) < 0)
        return 77;
    int inside = test_fork(connect_from_inside, arg);
    return test_wait(inside);
}

static int enter_and_listen(void *arg) {
    if (unshare(CLONE_NEWPID) < 0)
        return 77;
    int pid = test_fork(listen_from_inside, arg);
    wf_close(arg);
    return test_wait(pid);
}

TEST(a_peer_in_another_pid_namespace_is_refused_by_one_of_both) {
    WF_AUTO_FD fd = -1;
    CHECK_NUMBER(wf_channel_listen(test_dir(), "s", 5, &fd, NULL), 0);
    int result = test_wait(test_fork(enter_and, (void *)test_dir()));
    if (result == 77)
        test_skip("unshare is not permitted");
    CHECK_NUMBER(result, 0);
    struct witness ready = raw_witness();
    int pid = test_fork(enter_and_listen, &ready.sent);
    WF_AUTO_FD client = -1;
    char byte;
    wf_close(&ready.sent);
    CHECK_NUMBER(read(ready.kept, &byte, 1), 0);
    CHECK_NUMBER(wf_channel_connect(test_dir(), "inner", &client, NULL), 0);
    CHECK_NUMBER(test_wait(pid), 1);
    close(ready.kept);
}

static int connect_late(void *arg) {
    struct wf_err err;
    int fd;
    return wf_channel_connect(arg, "s", &fd, &err) == -1 ? err.code : 0;
}

/* A backlog that is full makes us wait, as when a burst of programs starts, until there is room. */
TEST(a_full_backlog_is_waited_for) {
    WF_AUTO_FD fd = -1;
    WF_AUTO_FD first = -1;
    CHECK_NUMBER(wf_channel_listen(test_dir(), "s", 0, &fd, NULL), 0);
    CHECK_NUMBER(wf_channel_connect(test_dir(), "s", &first, NULL), 0);
    int pid = test_fork(connect_late, (void *)test_dir());
    for (int i = 0; i < 2; i++) {
        WF_AUTO_FD accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        CHECK(accepted >= 0);
    }
    CHECK_NUMBER(test_wait(pid), 0);
}
