/* The framer reads no further than the message it is in: two system calls a message, and in return
 * descriptors always belong to the message that they came with. It serves control connections,
 * where that costs nothing that matters. */
#include "channel/intake.h"

#include "base/io.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void wf_framer_init(struct wf_framer *f) {
    wf_buf_init(&f->in, WF_HEADER_SIZE + WF_INLINE_MAX);
    f->nfds = 0;
}

void wf_framer_done(struct wf_framer *f) {
    struct intake in = { .fds = f->fds, .nfds = &f->nfds };
    wf_intake_drop(&in);
    wf_buf_done(&f->in);
}

/* Reads until the buffer holds `size` bytes. 1: it does, 0: nothing more for now, -1. */
static int fill(struct wf_framer *f, int fd, size_t size, struct wf_err *err) {
    struct intake in = { .fds = f->fds, .nfds = &f->nfds };
    struct wf_err scratch;
    struct wf_err *e = err ? err : &scratch;
    while (f->in.size < size) {
        uint8_t *to = wf_buf_reserve(&f->in, size - f->in.size);
        if (!to) {
            errno = ENOMEM;
            return wf_err_sys(err, "malloc", "message payload");
        }
        ssize_t n = wf_intake_receive(&in, fd, to, size - f->in.size, MSG_DONTWAIT, f->in.size == 0,
                                      e);
        if (n < 0)
            return e->code == EAGAIN ? 0 : -1;
        if (n == 0)
            return wf_err_msg(err, f->in.size == 0 ? "end of file"
                                                   : "end of file in the middle of a message");
        f->in.size += (size_t)n;
    }
    return 1;
}

/* Hands the finished message over, with the buffer itself as its block. */
static int deliver(struct wf_framer *f, const struct wf_header *header, struct wf_message *ret,
                   struct wf_err *err) {
    ret->header = *header;
    ret->nfds = f->nfds;
    memcpy(ret->fds, f->fds, f->nfds * sizeof f->fds[0]);
    f->nfds = 0;
    ret->map = NULL;
    ret->heap = f->in.data;
    ret->payload = f->in.data + WF_HEADER_SIZE;
    wf_buf_init(&f->in, WF_HEADER_SIZE + WF_INLINE_MAX);
    if (!(header->flags & WF_F_MEMFD) || wf_intake_map(ret, err) == 0)
        return 1;
    wf_message_done(ret);
    return -1;
}

int wf_framer_read(struct wf_framer *f, int fd, struct wf_message *ret, struct wf_err *err) {
    struct intake in = { .fds = f->fds, .nfds = &f->nfds };
    struct wf_header header;
    int status = fill(f, fd, WF_HEADER_SIZE, err);
    if (status <= 0)
        return status;
    if (wf_intake_header(&in, f->in.data, &header, err) < 0)
        return -1;
    if (!(header.flags & WF_F_MEMFD)) {
        status = fill(f, fd, WF_HEADER_SIZE + header.size, err);
        if (status <= 0)
            return status;
    }
    return deliver(f, &header, ret, err);
}
