#include "base/cleanup.h"
#include "raw.h"
#include "test.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

TEST(a_framer_takes_a_message_in_any_pieces) {
    static const char text[] = "in pieces";
    uint8_t bytes[WF_HEADER_SIZE + sizeof text];
    memcpy(bytes, raw_header(WF_REPLY, sizeof text, 1, 0), WF_HEADER_SIZE);
    memcpy(bytes + WF_HEADER_SIZE, text, sizeof text);
    for (size_t piece = 1; piece <= sizeof bytes; piece++) {
        int pair[2];
        struct wf_framer f;
        struct wf_message m;
        raw_pair(pair);
        wf_framer_init(&f);
        for (size_t at = 0; at < sizeof bytes; at += piece) {
            CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, NULL), 0);
            size_t left = sizeof bytes - at;
            raw_send(pair[0], bytes + at, left < piece ? left : piece, pair, at == 0);
        }
        CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, NULL), 1);
        CHECK_STRING((char *)m.payload, text);
        CHECK_NUMBER(m.nfds, 1);
        CHECK(same_file(m.fds[0], pair[0]));
        CHECK_NUMBER(fcntl(m.fds[0], F_GETFD), FD_CLOEXEC);
        wf_message_done(&m);
        CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, NULL), 0);
        wf_framer_done(&f);
        close(pair[0]);
        close(pair[1]);
    }
}

TEST(a_framer_takes_one_message_at_a_time) {
    int pair[2];
    struct wf_framer f;
    struct wf_message m;
    struct wf_err err;
    raw_pair(pair);
    wf_framer_init(&f);
    static uint8_t big[WF_INLINE_MAX + 1];
    static const size_t sizes[] = { 0, 7, sizeof big, 60000, 0, sizeof big, 1 };
    for (unsigned i = 0; i < 7; i++) {
        struct iovec iov = { big, sizes[i] };
        memset(big, (int)i, sizeof big);
        CHECK_NUMBER(wf_channel_send(pair[0], WF_NOTE, 0, &iov, 1, pair, i % 2, NULL), 0);
    }
    for (unsigned i = 0; i < 7; i++) {
        CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, NULL), 1);
        CHECK_NUMBER(m.header.size, sizes[i]);
        CHECK_NUMBER(m.nfds, i % 2);
        for (size_t at = 0; at < sizes[i]; at++)
            CHECK(m.payload[at] == i);
        wf_message_done(&m);
    }
    CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, &err), 0);
    close(pair[0]);
    CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, &err), -1);
    CHECK_NUMBER(err.code, 0);
    CHECK_STRING(err.text, "end of file");
    wf_framer_done(&f);
    close(pair[1]);
}

TEST(a_framer_notices_an_end_at_any_point) {
    uint8_t bytes[WF_HEADER_SIZE + 8] = { 0 };
    memcpy(bytes, raw_header(WF_STARTED, 8, 1, 0), WF_HEADER_SIZE);
    for (size_t cut = 1; cut < sizeof bytes; cut++) {
        int pair[2];
        struct wf_framer f;
        struct wf_message m;
        struct wf_err err;
        raw_pair(pair);
        wf_framer_init(&f);
        struct witness w = raw_witness();
        raw_send(pair[0], bytes, cut, &w.sent, 1);
        CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, &err), 0);
        close(pair[0]);
        CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, &err), -1);
        CHECK_STRING(err.text, "end of file in the middle of a message");
        wf_framer_done(&f);
        raw_check_closed(&w);
        close(pair[1]);
    }
}

static void check_refused(const uint8_t *bytes, size_t size, int fd, unsigned nfds) {
    int pair[2];
    struct wf_framer f;
    struct wf_message m;
    raw_pair(pair);
    wf_framer_init(&f);
    struct witness w = raw_witness();
    int fds[253];
    for (unsigned i = 0; i < nfds; i++)
        fds[i] = i + 1 < nfds || fd < 0 ? w.sent : fd;
    raw_send(pair[0], bytes, size, fds, nfds);
    CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, NULL), -1);
    wf_framer_done(&f);
    raw_check_closed(&w);
    wf_close(&fd);
    close(pair[0]);
    close(pair[1]);
}

TEST(a_framer_refuses_what_a_channel_refuses) {
    check_refused((const uint8_t *)"GET / HTTP/1.1\r\n", WF_HEADER_SIZE, -1, 1);
    check_refused(raw_header(WF_RUN, 0, 1, 0), WF_HEADER_SIZE, -1, 2);
    check_refused(raw_header(WF_RUN, 0, 1, 0), WF_HEADER_SIZE, -1, 0);
    check_refused(raw_header(WF_RUN, 0, 1, 0), WF_HEADER_SIZE, -1, 253);
    check_refused(raw_header(WF_RUN, UINT32_MAX, 1, 0), WF_HEADER_SIZE, -1, 1);
    check_refused(raw_header(WF_RUN, 99, 2, WF_F_MEMFD), WF_HEADER_SIZE, raw_memfd(99, 0), 2);
    check_refused(raw_header(WF_RUN, 99, 2, WF_F_MEMFD), WF_HEADER_SIZE,
                  raw_memfd(98, F_SEAL_SHRINK | F_SEAL_WRITE), 2);
}

TEST(a_framer_forgets_what_was_begun) {
    int pair[2];
    struct wf_framer f;
    struct wf_message m;
    raw_pair(pair);
    wf_framer_init(&f);
    struct witness w = raw_witness();
    raw_send(pair[0], raw_header(WF_RUN, 5000, 1, 0), WF_HEADER_SIZE, &w.sent, 1);
    raw_send(pair[0], "abc", 3, NULL, 0);
    CHECK_NUMBER(wf_framer_read(&f, pair[1], &m, NULL), 0);
    wf_framer_done(&f);
    raw_check_closed(&w);
    close(pair[0]);
    close(pair[1]);
}
