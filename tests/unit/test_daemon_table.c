/* The life of a zygote in the daemon: the table by itself, then driven by messages over a socket
 * pair, with this test as the zygote. */
#include "test.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "daemon/daemon.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void mark(enum wd_state state, bool seen[ZS_COUNT]) {
    if (seen[state])
        return;
    seen[state] = true;
    for (int e = 0; e < ZE_COUNT; e++) {
        const struct wd_transition *t = wd_zygote_transition(state, (enum wd_event)e);
        if (!t)
            continue;
        mark(t->next, seen);
        mark(t->otherwise, seen);
    }
}

TEST(table_reaches_every_state_and_always_death) {
    bool seen[ZS_COUNT] = { 0 };
    mark(ZS_NEW, seen);
    for (int s = 0; s < ZS_COUNT; s++) {
        bool from[ZS_COUNT] = { 0 };
        CHECK(seen[s]);
        CHECK(wd_state_name((enum wd_state)s) != NULL);
        mark((enum wd_state)s, from);
        CHECK(from[ZS_DEAD]);
    }
}

TEST(table_leaves_the_dead_alone) {
    for (int e = 0; e < ZE_COUNT; e++)
        CHECK(wd_zygote_transition(ZS_DEAD, (enum wd_event)e) == NULL);
}

/* Whatever holds a slot can be told to go, and what has a deadline does something when it passes.
 */
TEST(table_handles_retire_and_timeout) {
    for (int s = ZS_ADOPTING; s <= ZS_READY; s++) {
        const struct wd_transition *t = wd_zygote_transition((enum wd_state)s, ZE_RETIRE);
        CHECK(t != NULL);
        CHECK(t->next == ZS_RETIRING || t->next == ZS_DEAD);
    }
    const enum wd_state timed[] = { ZS_ADOPTING, ZS_WAITING,  ZS_LAUNCHING,
                                    ZS_WARMING,  ZS_RETIRING, ZS_FAILED };
    for (size_t i = 0; i < sizeof timed / sizeof *timed; i++)
        CHECK(wd_zygote_transition(timed[i], ZE_TIMEOUT) != NULL);
    CHECK(wd_zygote_transition(ZS_READY, ZE_TIMEOUT) == NULL);
}

TEST(table_serves_only_after_ready) {
    for (int s = 0; s < ZS_COUNT; s++)
        for (int e = 0; e < ZE_COUNT; e++) {
            const struct wd_transition *t = wd_zygote_transition((enum wd_state)s,
                                                                 (enum wd_event)e);
            if (t && t->next == ZS_READY)
                CHECK_NUMBER(e, ZE_READY);
        }
}

static struct daemon d;
static const uint8_t key[WF_KEY_SIZE] = "0123456789abcde";

static void daemon_begin(void) {
    struct wf_err err;
    d = (struct daemon){ .rundir_fd = -1,
                         .lock_fd = -1,
                         .options = { .idle_us = 1800 * WD_SECOND } };
    d.signals.fd = d.timer.fd = d.listen.fd = -1;
    wf_fmt(d.rundir, sizeof d.rundir, "%s", test_dir());
    d.rundir_fd = open(d.rundir, O_PATH | O_CLOEXEC);
    CHECK(d.rundir_fd >= 0);
    CHECK_NUMBER(wd_loop_init(&d, &err), 0);
    d.measured_us = d.used_us = wf_now_us();
}

static void daemon_end(void) {
    while (d.zygotes)
        wd_zygote_free(&d, d.zygotes);
    wd_unwatch(&d, &d.signals);
    wd_unwatch(&d, &d.timer);
    wf_close(&d.epoll_fd);
    wf_close(&d.rundir_fd);
}

/* A zygote as after WF_ADOPT; *ret_peer is its end of the control channel. */
static struct wd_zygote *adopted(int *ret_peer) {
    int pair[2];
    struct wf_err err;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    struct wd_zygote *z = wd_zygote_new(&d, key, key);
    CHECK(z != NULL);
    CHECK_NUMBER(wd_control_watch(&d, z, pair[0], &err), 0);
    wd_zygote_event(&d, z, ZE_ADOPT);
    *ret_peer = pair[1];
    return z;
}

static void say_ready(int peer, pid_t pid, const uint8_t *its_key) {
    WF_AUTO_BUF out;
    wf_buf_init(&out, 4096);
    struct wf_ready m = { .pid = (uint32_t)pid, .python = { (const uint8_t *)"/bin/python3", 12 } };
    memcpy(m.key, its_key, WF_KEY_SIZE);
    CHECK(wf_encode_ready(&out, &m));
    struct iovec iov = { out.data, out.size };
    CHECK_NUMBER(wf_channel_send(peer, WF_READY, 0, &iov, 1, NULL, 0, NULL), 0);
}

static void say(int peer, enum wf_type type, unsigned code, const char *text) {
    CHECK_NUMBER(wd_send_text(peer, type, code, text), 0);
}

static void make_route(bool control) {
    char name[48];
    wf_route_name(key, 0, control, name);
    int fd = openat(d.rundir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    close(fd);
}

static bool has_route(bool control) {
    char name[48];
    wf_route_name(key, 0, control, name);
    return faccessat(d.rundir_fd, name, F_OK, 0) == 0;
}

static int sleeper(void *unused) {
    (void)unused;
    return pause();
}

TEST(zygote_ready_note_gone_end) {
    int peer;
    daemon_begin();
    struct wd_zygote *z = adopted(&peer);
    pid_t pid = test_fork(sleeper, NULL);
    make_route(false);
    make_route(true);
    say_ready(peer, pid, key);
    say(peer, WF_NOTE, 0, "no module named nonsense");
    wd_control_read(&d, z);
    CHECK_NUMBER(z->state, ZS_READY);
    CHECK_NUMBER(z->pid, pid);
    CHECK_STRING(z->notes[0], "no module named nonsense");
    CHECK(has_route(false));
    say(peer, WF_GONE, 0, "stale: json changed");
    wd_control_read(&d, z);
    CHECK_NUMBER(z->state, ZS_RETIRING);
    CHECK_STRING(z->why, "stale: json changed");
    CHECK(!has_route(false));
    CHECK(has_route(true)); /* clients may still ask for its workers */
    kill(pid, SIGKILL);
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
    wd_reap(&d);
    CHECK_NUMBER(z->state, ZS_DEAD);
    CHECK(!has_route(true));
    int status;
    CHECK(wd_reap_find(&d, &(struct wf_started){ (uint32_t)pid, d.ended[0].cookie }, &status));
    CHECK(WIFSIGNALED(status));
    CHECK(!wd_reap_find(&d, &(struct wf_started){ (uint32_t)pid, 1 }, &status));
    close(peer);
    daemon_end();
}

TEST(zygote_that_lies_loses_its_route) {
    int peer;
    uint8_t other[WF_KEY_SIZE] = "another";
    daemon_begin();
    struct wd_zygote *z = adopted(&peer);
    make_route(false);
    say_ready(peer, getpid(), other);
    wd_control_read(&d, z);
    CHECK_NUMBER(z->state, ZS_DEAD);
    CHECK(!has_route(false));
    close(peer);
    daemon_end();
}

TEST(zygote_retired_in_ready_is_told) {
    int peer;
    daemon_begin();
    struct wd_zygote *z = adopted(&peer);
    say_ready(peer, getpid(), key);
    wd_control_read(&d, z);
    make_route(false);
    wf_fmt(z->why, sizeof z->why, "idle");
    wd_zygote_event(&d, z, ZE_RETIRE);
    CHECK_NUMBER(z->state, ZS_RETIRING);
    CHECK(!has_route(false));
    struct wf_message m;
    CHECK_NUMBER(wf_channel_receive(peer, &m, NULL, 0, 1000, NULL), 1);
    CHECK_NUMBER(m.header.type, WF_RETIRE);
    wf_message_done(&m);
    close(peer);
    daemon_end();
}

/* Each failure of a key waits twice as long as the one before, and there is one record of them. */
TEST(zygote_failures_back_off) {
    daemon_begin();
    long long last = 0;
    for (unsigned i = 1; i <= 12; i++) {
        struct wd_zygote *z = wd_zygote_new(&d, key, (const uint8_t *)"its base's key..");
        wd_zygote_event(&d, z, ZE_QUEUE);
        CHECK_NUMBER(z->state, ZS_WAITING);
        wd_zygote_event(&d, z, ZE_BASE_LOST);
        CHECK_NUMBER(z->state, ZS_FAILED);
        CHECK_NUMBER(z->failures, i);
        long long pause = z->retry_us - wf_now_us();
        CHECK(pause > last || pause > 599 * WD_SECOND);
        CHECK(pause <= 600 * WD_SECOND);
        last = pause;
        wd_settle(&d);
        CHECK(d.zygotes == z && !z->next);
    }
    daemon_end();
}

TEST(status_json_holds_any_bytes) {
    daemon_begin();
    struct wd_zygote *z = wd_zygote_new(&d, key, key);
    z->state = ZS_FAILED;
    z->name = strdup("a\"b\\c\n\xff\xc3\xa9");
    WF_AUTO_BUF out;
    wf_buf_init(&out, 1 << 16);
    wd_status_json(&d, "", &out);
    wf_buf_add(&out, "", 1);
    CHECK(!out.failed);
    CHECK(strstr((char *)out.data, "\"name\": \"a\\\"b\\\\c\\u000a\\udcff\xc3\xa9\", ") != NULL);
    daemon_end();
}
