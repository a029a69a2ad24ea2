#include "client/reply.h"

#include "base/io.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void wf_replies_init(struct wf_replies *in, int fd) {
    in->fd = fd;
    for (int i = 0; i < WF_STARTED_FDS; i++)
        in->passed[i] = -1;
    in->lost = false;
    in->size = in->used = 0;
}

void wf_replies_done(struct wf_replies *in) {
    wf_close(&in->fd);
    for (int i = 0; i < WF_STARTED_FDS; i++)
        wf_close(&in->passed[i]);
}

/* More than a message of a worker's has are closed. Those that did not fit into our table are not
 * an error: the message that they belong to may say that the program runs, and that must not be
 * lost. */
static void take_descriptors(struct wf_replies *in, struct msghdr *msg) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd, at = 0;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            while (at < WF_STARTED_FDS && in->passed[at] >= 0)
                at++;
            if (at < WF_STARTED_FDS)
                in->passed[at] = wf_steal_fd(&fd);
            wf_close(&fd);
        }
    }
}

static int fill(struct wf_replies *in, struct wf_err *err) {
    union {
        char space[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = { in->data + in->size, sizeof in->data - in->size };
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    ssize_t got;
    do
        got = recvmsg(in->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got < 0)
        return wf_err_sys(err, "recvmsg", "connection to the worker");
    if (got == 0)
        return wf_err_msg(err, "the worker closed the connection");
    take_descriptors(in, &msg);
    in->lost = in->lost || (msg.msg_flags & MSG_CTRUNC) != 0;
    in->size += (uint32_t)got;
    return 1;
}

/* 1: complete, 0: more is needed, -1: nonsense. */
static int parse(struct wf_replies *in, struct wf_header *ret_header, struct wf_err *err) {
    struct wf_header header;
    if (in->size < WF_HEADER_SIZE)
        return 0;
    const char *wrong = wf_decode_header(in->data, &header);
    if (wrong != NULL)
        return wf_err_msg(err, "the worker's answer: %s", wrong);
    if (header.size > sizeof in->data - WF_HEADER_SIZE || (header.flags & WF_F_MEMFD) != 0)
        return wf_err_msg(err, "the worker's answer: too large");
    if (in->size < WF_HEADER_SIZE + header.size)
        return 0;
    *ret_header = header;
    in->used = WF_HEADER_SIZE + header.size;
    return 1;
}

int wf_replies_next(struct wf_replies *in, struct wf_header *ret_header,
                    const uint8_t **ret_payload, struct wf_err *err) {
    int result;
    if (in->fd < 0)
        return wf_err_msg(err, "the connection to the worker is closed");
    in->size -= in->used;
    memmove(in->data, in->data + in->used, in->size);
    in->used = 0;
    while ((result = parse(in, ret_header, err)) == 0) {
        result = fill(in, err);
        if (result <= 0)
            break;
    }
    if (result > 0)
        *ret_payload = in->data + WF_HEADER_SIZE;
    if (result < 0)
        wf_close(&in->fd);
    return result;
}
