#include "stream.h"

#include "../unit/codec.h"
#include "base/cleanup.h"
#include "fuzz.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static int null_fd = -1;

int stream_open(struct stream *s, const uint8_t *data, size_t size) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        abort();
    *s = (struct stream){ .at = data, .end = data + size, .fd = pair[0] };
    return pair[1];
}

void stream_close(struct stream *s) { wf_close(&s->fd); }

static int make_memfd(bool sealed) {
    static uint8_t content[STREAM_MEMFD_SIZE];
    struct wf_buf out;
    struct iovec iov = { content, sizeof content };
    if (content[0] == 0 && content[1] == 0) {
        wf_buf_init_fixed(&out, content, sizeof content);
        encode_whole_request(&out, sample_request(0));
    }
    int fd = sealed ? wf_memfd_sealed("fuzz", &iov, 1) : memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || (!sealed && ftruncate(fd, STREAM_MEMFD_SIZE) < 0))
        abort();
    return fd;
}

static void send_step(struct stream *s, unsigned kinds, size_t size) {
    int fds[4];
    unsigned nfds = 0, files = kinds & 3;
    WF_AUTO_FD memfd = kinds & (STREAM_SEALED | STREAM_OPEN) ? make_memfd(kinds & STREAM_SEALED)
                                                             : -1;
    while (nfds < files)
        fds[nfds++] = null_fd; /* not the sending end: in flight, that would keep itself open */
    if (memfd >= 0)
        fds[nfds++] = memfd;
    union {
        char space[CMSG_SPACE(sizeof fds)];
        struct cmsghdr align;
    } control;
    struct iovec iov = { .iov_base = (void *)s->at, .iov_len = size };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (nfds > 0) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    if (sendmsg(s->fd, &msg, MSG_NOSIGNAL) < 0) /* the socket is full: this is the end */
        s->at = s->end;
    else
        s->at += size;
}

bool stream_step(struct stream *s) {
    if (s->end - s->at < 3) {
        stream_close(s);
        return false;
    }
    unsigned kinds = s->at[0] & 15;
    size_t size = s->at[1] | (size_t)s->at[2] << 8, left = (size_t)(s->end - s->at) - 3;
    s->at += 3;
    send_step(s, kinds, size < left ? size : left);
    return true;
}

static enum codec codec_of(unsigned type) {
    switch (type) {
    case WF_RUN:
    case WF_WARM:
    case WF_SPAWN:
        return CODEC_REQUEST;
    case WF_STARTED:
    case WF_ASK:
        return CODEC_STARTED;
    case WF_EXITED:
    case WF_ANSWER:
        return CODEC_EXITED;
    case WF_READY:
        return CODEC_READY;
    case WF_STATS:
        return CODEC_STATS;
    case WF_BOUNDS:
        return CODEC_BOUNDS;
    default:
        return CODEC_TEXT;
    }
}

void stream_consume(struct wf_message *m) {
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < m->header.size; i++)
        sum = (uint8_t)(sum + m->payload[i]);
    for (unsigned i = 0; i < m->nfds; i++)
        if (fcntl(m->fds[i], F_GETFD) != FD_CLOEXEC)
            abort();
    bool memfd = m->header.flags & WF_F_MEMFD;
    if (m->nfds + memfd != m->header.nfds || !m->map != !memfd)
        abort();
    codec_again(codec_of(m->header.type), m->payload, m->header.size, NULL);
    wf_message_done(m);
}

int stream_lowest_fd(void) {
    if (null_fd < 0 && (null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
        abort();
    int fd = fcntl(null_fd, F_DUPFD_CLOEXEC, 0);
    wf_close(&(int){ fd });
    return fd;
}
