#include "channel/intake.h"

#include "base/io.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

void wf_message_done(struct wf_message *m) {
    while (m->nfds > 0)
        wf_close(&m->fds[--m->nfds]);
    if (m->map)
        munmap(m->map, m->header.size);
    free(m->heap);
    m->map = m->heap = NULL;
    m->payload = NULL;
}

/* How long the receiver may still wait. The clock is not looked at before there is something to
 * wait for. */
struct patience {
    int timeout_ms;        /* -1: for ever */
    long long deadline_us; /* 0: not yet known */
};

static int wait_readable(int fd, struct patience *p, struct wf_err *err) {
    int left_ms = -1;
    if (p->timeout_ms >= 0) {
        long long now = wf_now_us();
        if (p->deadline_us == 0)
            p->deadline_us = now + p->timeout_ms * 1000LL;
        left_ms = p->deadline_us > now ? (int)((p->deadline_us - now + 999) / 1000) : 0;
    }
    struct pollfd item = { .fd = fd, .events = POLLIN };
    int n = poll(&item, 1, left_ms);
    if (n < 0 && errno != EINTR)
        return wf_err_sys(err, "poll", "connection");
    if (n == 0) {
        errno = EAGAIN;
        return wf_err_sys(err, "receive", "connection");
    }
    return 0;
}

/* Receives exactly `size` bytes. 1, 0 at end of file before the first, -1. With a time limit the
 * socket is asked before it is polled: mostly the bytes are there. */
static int receive_exactly(struct intake *in, int fd, uint8_t *data, size_t size, bool first,
                           struct patience *p, struct wf_err *err) {
    struct wf_err scratch;
    struct wf_err *e = err ? err : &scratch;
    for (size_t got = 0; got < size;) {
        ssize_t n = wf_intake_receive(in, fd, data + got, size - got,
                                      p->timeout_ms < 0 ? 0 : MSG_DONTWAIT, first && got == 0, e);
        if (n > 0)
            got += (size_t)n;
        else if (n == 0)
            return got == 0 && first ? 0
                                     : wf_err_msg(err, "end of file in the middle of a message");
        else if (e->code != EAGAIN || wait_readable(fd, p, e) < 0)
            return -1;
    }
    return 1;
}

static int receive_payload(struct intake *in, int fd, struct wf_message *m, void *storage,
                           size_t storage_size, struct patience *p, struct wf_err *err) {
    if (m->header.flags & WF_F_MEMFD)
        return wf_intake_map(m, err);
    m->payload = storage;
    if (m->header.size > storage_size) {
        m->payload = m->heap = malloc(m->header.size);
        if (!m->heap)
            return wf_err_sys(err, "malloc", "message payload");
    }
    return receive_exactly(in, fd, m->payload, m->header.size, false, p, err) < 0 ? -1 : 0;
}

int wf_channel_receive(int fd, struct wf_message *ret, void *storage, size_t storage_size,
                       int timeout_ms, struct wf_err *err) {
    struct patience patience = { .timeout_ms = timeout_ms };
    uint8_t head[WF_HEADER_SIZE];
    ret->payload = NULL;
    ret->map = ret->heap = NULL;
    ret->nfds = 0;
    struct intake in = { .fds = ret->fds, .nfds = &ret->nfds };
    int status = receive_exactly(&in, fd, head, sizeof head, true, &patience, err);
    if (status == 1 && (wf_intake_header(&in, head, &ret->header, err) < 0 ||
                        receive_payload(&in, fd, ret, storage, storage_size, &patience, err) < 0))
        status = -1;
    if (status != 1)
        wf_message_done(ret);
    return status;
}
