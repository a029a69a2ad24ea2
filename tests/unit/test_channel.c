#include "base/cleanup.h"
#include "raw.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t storage[4096];

static int receive(int fd, struct wf_message *m, int timeout_ms, struct wf_err *err) {
    memset(m, 0xa5, sizeof *m);
    return wf_channel_receive(fd, m, storage, sizeof storage, timeout_ms, err);
}

/* Receives what must be refused, and says why. */
static void refused(int fd, const char *reason) {
    struct wf_message m;
    struct wf_err err;
    CHECK_NUMBER(receive(fd, &m, 1000, &err), -1);
    if (!strstr(err.text, reason))
        test_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", err.text, reason);
    CHECK(m.nfds == 0 && !m.map && !m.heap);
    wf_message_done(&m); /* nothing to do any more, and harmless */
}

static uint8_t *pattern(size_t size) {
    uint8_t *data = malloc(size + 1);
    CHECK(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    return data;
}

static void check_transfer(size_t size, unsigned nfds) {
    int pair[2], fds[WF_MAX_FDS];
    raw_pair(pair);
    uint8_t *data = pattern(size);
    for (unsigned i = 0; i < nfds; i++)
        CHECK((fds[i] = open(i % 2 ? "/dev/null" : "/dev/zero", O_RDONLY | O_CLOEXEC)) >= 0);
    struct iovec iov[3] = { { data, size / 3 }, { data, 0 }, { data + size / 3, size - size / 3 } };
    struct wf_err err;
    if (wf_channel_send(pair[0], WF_WARM, WF_F_WAIT, iov, 3, fds, nfds, &err) < 0)
        test_fail(__FILE__, __LINE__, "%s", err.text);
    struct wf_message m;
    if (receive(pair[1], &m, 1000, &err) != 1)
        test_fail(__FILE__, __LINE__, "%s", err.text);
    bool mapped = size > WF_INLINE_MAX;
    CHECK_NUMBER(m.header.type, WF_WARM);
    CHECK_NUMBER(m.header.flags, WF_F_WAIT | (mapped ? WF_F_MEMFD : 0));
    CHECK_NUMBER(m.header.size, size);
    CHECK_NUMBER(m.nfds, nfds);
    CHECK(memcmp(m.payload, data, size) == 0);
    CHECK(!m.map == !mapped && !m.heap == (mapped || size <= sizeof storage));
    for (unsigned i = 0; i < nfds; i++) {
        CHECK(same_file(m.fds[i], fds[i]));
        CHECK_NUMBER(fcntl(m.fds[i], F_GETFD), FD_CLOEXEC);
        close(fds[i]);
    }
    if (size > 0)
        m.payload[0] ^= 1; /* ours to write to */
    wf_message_done(&m);
    free(data);
    close(pair[0]);
    CHECK_NUMBER(receive(pair[1], &m, 1000, &err), 0); /* and not a byte more */
    close(pair[1]);
}

TEST(messages_of_all_sizes_arrive) {
    static const size_t sizes[] = {
        0, 1, 4095, 4096, 4097, 60000, WF_INLINE_MAX, WF_INLINE_MAX + 1, 3 << 20, WF_MAX_PAYLOAD
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check_transfer(sizes[i], 0);
        check_transfer(sizes[i], 3);
    }
}

TEST(messages_with_all_descriptors_arrive) {
    check_transfer(10, WF_MAX_FDS);
    check_transfer(WF_INLINE_MAX + 1, WF_MAX_FDS);
}

TEST(what_is_too_large_is_not_sent) {
    int pair[2], fds[WF_MAX_FDS + 1] = { 0 };
    struct wf_err err;
    raw_pair(pair);
    static uint8_t block[4 << 20];
    struct iovec iov[9] = { [0 ... 8] = { block, sizeof block } };
    CHECK_NUMBER(wf_channel_send(pair[0], WF_WARM, 0, iov, 5, NULL, 0, &err), -1);
    CHECK_NUMBER(wf_channel_send(pair[0], WF_WARM, 0, iov, 9, NULL, 0, &err), -1);
    CHECK_NUMBER(wf_channel_send(pair[0], WF_WARM, 0, iov, 0, fds, WF_MAX_FDS + 1, &err), -1);
    iov[0].iov_len = SIZE_MAX;
    CHECK_NUMBER(wf_channel_send(pair[0], WF_WARM, 0, iov, 2, NULL, 0, &err), -1);
    int fd = -1;
    CHECK_NUMBER(wf_channel_send(pair[0], WF_WARM, 0, NULL, 0, &fd, 1, &err), -1);
    CHECK_NUMBER(err.code, EBADF);
    close(pair[0]);
    close(pair[1]);
}

/* STARTED and EXITED may lie in the socket one behind the other. */
TEST(messages_back_to_back_keep_their_descriptors) {
    int pair[2];
    raw_pair(pair);
    struct wf_message m;
    for (int i = 0; i < 4; i++) {
        struct iovec iov = { (void *)"payload", (size_t)i };
        CHECK(wf_channel_send(pair[0], WF_STARTED, 0, &iov, 1, pair, i % 2, NULL) == 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        CHECK_NUMBER(receive(pair[1], &m, i % 2 ? -1 : 1000, NULL), 1);
        CHECK_NUMBER(m.header.size, i);
        CHECK_NUMBER(m.nfds, i % 2);
        CHECK(memcmp(m.payload, "payload", i) == 0);
        wf_message_done(&m);
    }
    close(pair[0]);
    close(pair[1]);
}

static void check_count(unsigned declared, unsigned sent) {
    int pair[2], fds[253];
    raw_pair(pair);
    struct witness w = raw_witness();
    for (unsigned i = 0; i < 253; i++)
        fds[i] = w.sent;
    raw_send(pair[0], raw_header(WF_RUN, 0, declared, 0), WF_HEADER_SIZE, fds, sent);
    refused(pair[1], sent > WF_MAX_FDS + 1 ? "too many descriptors" : "declared");
    raw_check_closed(&w);
    close(pair[0]);
    close(pair[1]);
}

TEST(a_wrong_descriptor_count_is_refused) {
    check_count(0, 1);
    check_count(1, 0);
    check_count(2, 1);
    check_count(1, 2);
    check_count(WF_MAX_FDS, WF_MAX_FDS + 1);
    check_count(0, 253);
}

TEST(descriptors_that_do_not_fit_the_table_are_refused) {
    int pair[2];
    raw_pair(pair);
    struct witness w = raw_witness();
    int fds[5] = { w.sent, w.sent, w.sent, w.sent, w.sent };
    raw_send(pair[0], raw_header(WF_RUN, 0, 5, 0), WF_HEADER_SIZE, fds, 5);
    struct rlimit old, tight;
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    tight = (struct rlimit){ (rlim_t)w.sent + 3, old.rlim_max }; /* room for two */
    CHECK(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    refused(pair[1], "descriptors were lost");
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    raw_check_closed(&w);
    close(pair[0]);
    close(pair[1]);
}

TEST(descriptors_in_the_middle_are_refused) {
    for (size_t at = 1; at < WF_HEADER_SIZE + 4; at++) {
        int pair[2];
        raw_pair(pair);
        struct witness w = raw_witness();
        uint8_t bytes[WF_HEADER_SIZE + 4] = { 0 };
        memcpy(bytes, raw_header(WF_RUN, 4, 1, 0), WF_HEADER_SIZE);
        if (at >= WF_HEADER_SIZE) /* declared or not */
            memcpy(bytes, raw_header(WF_RUN, 4, 0, 0), WF_HEADER_SIZE);
        raw_send(pair[0], bytes, at, NULL, 0);
        if (at < WF_HEADER_SIZE) { /* so that the receiver has taken the first part */
            struct wf_message m;
            struct wf_framer f;
            wf_framer_init(&f);
            CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, NULL), 0);
            raw_send(pair[0], bytes + at, sizeof bytes - at, &w.sent, 1);
            CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, NULL), -1);
            wf_framer_done(&f);
        } else {
            raw_send(pair[0], bytes + at, sizeof bytes - at, &w.sent, 1);
            refused(pair[1], "in the middle");
        }
        raw_check_closed(&w);
        close(pair[0]);
        close(pair[1]);
    }
}

static void check_memfd(int fd, uint32_t declared, const char *reason) {
    int pair[2];
    raw_pair(pair);
    struct witness w = raw_witness();
    int fds[2] = { w.sent, fd };
    raw_send(pair[0], raw_header(WF_WARM, declared, 2, WF_F_MEMFD), WF_HEADER_SIZE, fds, 2);
    if (reason) {
        refused(pair[1], reason);
    } else {
        struct wf_message m;
        CHECK_NUMBER(receive(pair[1], &m, 1000, NULL), 1);
        CHECK(m.map && m.nfds == 1);
        wf_message_done(&m);
    }
    raw_check_closed(&w);
    close(fd);
    close(pair[0]);
    close(pair[1]);
}

TEST(a_memfd_that_is_not_what_it_should_be_is_refused) {
    const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
    check_memfd(raw_memfd(100000, all), 100000, NULL);
    check_memfd(raw_memfd(5, F_SEAL_SHRINK | F_SEAL_WRITE), 5, NULL);
    check_memfd(raw_memfd(100000, 0), 100000, "not sealed");
    check_memfd(raw_memfd(100000, F_SEAL_SHRINK | F_SEAL_GROW), 100000, "not sealed");
    check_memfd(raw_memfd(100000, F_SEAL_WRITE), 100000, "not sealed");
    check_memfd(raw_memfd(99999, all), 100000, "99999 bytes");
    check_memfd(raw_memfd(0, all), 100000, "0 bytes");
    check_memfd(raw_memfd(100001, all), 100000, "100001 bytes");
    check_memfd(open("/dev/zero", O_RDONLY | O_CLOEXEC), 100000, "F_GET_SEALS");
    check_memfd(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), 100000, "F_GET_SEALS");
    check_memfd(open(test_dir(), O_PATH | O_CLOEXEC), 100000, "F_GET_SEALS");
}

static void check_header(const void *bytes, const char *reason) {
    int pair[2];
    raw_pair(pair);
    raw_send(pair[0], bytes, WF_HEADER_SIZE, NULL, 0);
    refused(pair[1], reason);
    close(pair[0]);
    close(pair[1]);
}

TEST(a_header_that_lies_is_refused) {
    uint8_t other[WF_HEADER_SIZE];
    memcpy(other, raw_header(WF_RUN, 0, 0, 0), sizeof other);
    other[4]++;
    check_header("GET / HTTP/1.1\r\n", "not a warmfork message");
    check_header(other, "another protocol version");
    check_header(raw_header(0, 0, 0, 0), "unknown message type");
    check_header(raw_header(WF_TYPE_LAST + 1, 0, 0, 0), "unknown message type");
    check_header(raw_header(WF_RUN, 0, 0, 512), "unknown flags");
    check_header(raw_header(WF_RUN, WF_INLINE_MAX + 1, 0, 0), "too large");
    check_header(raw_header(WF_RUN, UINT32_MAX, 0, 0), "too large");
    check_header(raw_header(WF_RUN, WF_MAX_PAYLOAD + 1, 1, WF_F_MEMFD), "too large");
    check_header(raw_header(WF_RUN, 0, 1, WF_F_MEMFD), "memfd is missing");
    check_header(raw_header(WF_RUN, 1, 0, WF_F_MEMFD), "memfd is missing");
    check_header(raw_header(WF_RUN, 0, WF_MAX_FDS + 1, 0), "too many descriptors");
}

static const char drip_text[] = "one byte after the other";

static int drip(void *arg) {
    int fd = *(int *)arg;
    uint8_t bytes[WF_HEADER_SIZE + sizeof drip_text];
    memcpy(bytes, raw_header(WF_REPLY, sizeof drip_text, 1, 0), WF_HEADER_SIZE);
    memcpy(bytes + WF_HEADER_SIZE, drip_text, sizeof drip_text);
    for (size_t i = 0; i < sizeof bytes; i++) {
        raw_send(fd, bytes + i, 1, &fd, i == 0);
        sched_yield();
    }
    return 0;
}

TEST(a_message_may_come_byte_by_byte) {
    for (int timeout = -1; timeout < 60000; timeout += 30000) {
        int pair[2];
        struct wf_message m;
        raw_pair(pair);
        int pid = test_fork(drip, &pair[0]);
        CHECK_NUMBER(receive(pair[1], &m, timeout ? timeout : 1000, NULL), 1);
        CHECK_STRING((char *)m.payload, drip_text);
        CHECK_NUMBER(m.nfds, 1);
        wf_message_done(&m);
        CHECK_NUMBER(test_wait(pid), 0);
        close(pair[0]);
        close(pair[1]);
    }
}

TEST(an_end_at_any_point_is_noticed) {
    uint8_t bytes[WF_HEADER_SIZE + 8] = { 0 };
    memcpy(bytes, raw_header(WF_STARTED, 8, 1, 0), WF_HEADER_SIZE);
    for (size_t cut = 0; cut < sizeof bytes; cut++) {
        int pair[2];
        struct wf_message m;
        struct wf_err err;
        raw_pair(pair);
        struct witness w = raw_witness();
        if (cut > 0)
            raw_send(pair[0], bytes, cut, &w.sent, 1);
        close(pair[0]);
        CHECK_NUMBER(receive(pair[1], &m, cut % 2 ? -1 : 1000, &err), cut == 0 ? 0 : -1);
        if (cut > 0)
            CHECK_STRING(err.text, "end of file in the middle of a message");
        CHECK_NUMBER(m.nfds, 0);
        raw_check_closed(&w);
        close(pair[1]);
    }
}

TEST(a_silent_peer_is_not_waited_for) {
    static const int limits[] = { 0, 1, 30 };
    uint8_t bytes[WF_HEADER_SIZE + 8] = { 0 };
    memcpy(bytes, raw_header(WF_STARTED, 8, 1, 0), WF_HEADER_SIZE);
    for (size_t i = 0; i < 3; i++)
        for (size_t sent = 0; sent < sizeof bytes; sent += 6) {
            int pair[2];
            struct wf_message m;
            struct wf_err err;
            raw_pair(pair);
            struct witness w = raw_witness();
            if (sent > 0)
                raw_send(pair[0], bytes, sent, &w.sent, 1);
            long long before = wf_now_us();
            CHECK_NUMBER(receive(pair[1], &m, limits[i], &err), -1);
            CHECK_NUMBER(err.code, EAGAIN);
            CHECK(wf_now_us() - before >= limits[i] * 1000);
            CHECK_NUMBER(m.nfds, 0);
            raw_check_closed(&w);
            close(pair[0]);
            close(pair[1]);
        }
}

TEST(a_non_blocking_socket_is_waited_for) {
    int pair[2];
    struct wf_message m;
    raw_pair(pair);
    CHECK(fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0);
    int pid = test_fork(drip, &pair[0]);
    CHECK_NUMBER(receive(pair[1], &m, -1, NULL), 1);
    wf_message_done(&m);
    CHECK_NUMBER(test_wait(pid), 0);
    close(pair[0]);
    close(pair[1]);
}

static int swallow(void *arg) {
    struct wf_message m;
    int status = wf_channel_receive(*(int *)arg, &m, NULL, 0, -1, NULL);
    for (size_t i = 0; status == 1 && i < m.header.size; i++)
        if (m.payload[i] != (uint8_t)(i * 7 + i / 251))
            return 2;
    return status == 1 && m.header.size == WF_INLINE_MAX && m.nfds == 1 ? 0 : 1;
}

/* A socket buffer that takes only part of the message at a time, blocking and not. */
TEST(a_message_larger_than_the_socket_buffer_arrives) {
    for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
        int pair[2], small = 4096;
        raw_pair(pair);
        CHECK(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
        CHECK(fcntl(pair[0], F_SETFL, flags) == 0);
        uint8_t *data = pattern(WF_INLINE_MAX);
        struct iovec iov[2] = { { data, 5 }, { data + 5, WF_INLINE_MAX - 5 } };
        int pid = test_fork(swallow, &pair[1]);
        CHECK_NUMBER(wf_channel_send(pair[0], WF_WARM, 0, iov, 2, pair, 1, NULL), 0);
        CHECK_NUMBER(test_wait(pid), 0);
        free(data);
        close(pair[0]);
        close(pair[1]);
    }
}

TEST(a_gone_peer_is_an_error_and_no_signal) {
    int pair[2];
    struct wf_err err;
    raw_pair(pair);
    close(pair[1]);
    CHECK_NUMBER(wf_channel_send(pair[0], WF_ADOPT, 0, NULL, 0, NULL, 0, &err), -1);
    CHECK_NUMBER(err.code, EPIPE);
    CHECK_STRING(err.text, "sendmsg connection: Broken pipe");
    close(pair[0]);
}
