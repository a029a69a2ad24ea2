#include "channel/channel.h"

#include "base/cleanup.h"
#include "channel/address.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define MAX_PARTS 8
#define MAX_WAIT_S                                                                                 \
    10 /* for room in a backlog or a socket buffer: a peer that is stuck must not hold us for ever \
        */

static int check_uid(int fd, const char *object, uint32_t *ret_pid, struct wf_err *err) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return wf_err_sys(err, "getsockopt SO_PEERCRED", object);
    if (peer.uid != geteuid())
        return wf_err_msg(err, "%s: belongs to uid %u", object, (unsigned)peer.uid);
    /* Both ends ask: processes that see each other are in the same pid namespace, and pids mean the
     * same to both. */
    if (peer.pid == 0)
        return wf_err_msg(err, "%s: belongs to another pid namespace", object);
    if (ret_pid)
        *ret_pid = (uint32_t)peer.pid;
    return 0;
}

int wf_channel_check_peer(int fd, uint32_t *ret_pid, struct wf_err *err) {
    return check_uid(fd, "peer of connection", ret_pid, err);
}

int wf_channel_connect(const char *path, const char *name, int *ret_fd, struct wf_err *err) {
    struct sockaddr_un address;
    if (wf_address_fill(&address, path, name, err) < 0)
        return -1;
    WF_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return wf_err_sys(err, "socket", address.sun_path);
    /* Bounds the wait for room in the listener's backlog as well as every later send. */
    struct timeval limit = { .tv_sec = MAX_WAIT_S };
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0)
        return wf_err_sys(err, "setsockopt SO_SNDTIMEO", address.sun_path);
    while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        if (errno != EINTR)
            return wf_err_sys(err, "connect", address.sun_path);
    if (check_uid(fd, address.sun_path, NULL, err) < 0)
        return -1;
    *ret_fd = wf_steal_fd(&fd);
    return 0;
}

/* EAGAIN on a socket that its owner made non-blocking: our senders block all the same, but not for
 * ever. */
static int wait_writable(int fd, struct wf_err *err) {
    int flags = fcntl(fd, F_GETFL);
    struct pollfd item = { .fd = fd, .events = POLLOUT };
    if (flags >= 0 && (flags & O_NONBLOCK)) {
        int n = poll(&item, 1, MAX_WAIT_S * 1000);
        if (n > 0 || (n < 0 && errno == EINTR))
            return 0;
    }
    errno = EAGAIN;
    return wf_err_sys(err, "sendmsg", "connection");
}

static void advance(struct msghdr *msg, size_t sent) {
    while (msg->msg_iovlen > 0 && sent >= msg->msg_iov->iov_len) {
        sent -= msg->msg_iov->iov_len;
        msg->msg_iov++;
        msg->msg_iovlen--;
    }
    if (msg->msg_iovlen > 0) {
        msg->msg_iov->iov_base = (char *)msg->msg_iov->iov_base + sent;
        msg->msg_iov->iov_len -= sent;
    }
}

/* Sends all of `msg`; its descriptors go with the first byte. */
static int send_all(int fd, struct msghdr *msg, struct wf_err *err) {
    while (msg->msg_iovlen > 0) {
        ssize_t sent = sendmsg(fd, msg, MSG_NOSIGNAL);
        if (sent >= 0) {
            advance(msg, (size_t)sent);
            msg->msg_control = NULL;
            msg->msg_controllen = 0;
        } else if (errno == EAGAIN) {
            if (wait_writable(fd, err) < 0)
                return -1;
        } else if (errno != EINTR) {
            return wf_err_sys(err, "sendmsg", "connection");
        }
    }
    return 0;
}

static int send_message(int fd, struct wf_header *h, const struct iovec *iov, int iovcnt,
                        const int *fds, int memfd, struct wf_err *err) {
    union {
        char space[CMSG_SPACE((WF_MAX_FDS + 1) * sizeof(int))];
        struct cmsghdr align;
    } control;
    uint8_t head[WF_HEADER_SIZE];
    struct wf_buf out;
    wf_buf_init_fixed(&out, head, sizeof head);
    wf_encode_header(&out, h);
    struct iovec parts[1 + MAX_PARTS] = { { .iov_base = head, .iov_len = sizeof head } };
    if (iovcnt > 0)
        memcpy(parts + 1, iov, (size_t)iovcnt * sizeof *iov);
    struct msghdr msg = { .msg_iov = parts, .msg_iovlen = 1 + (size_t)iovcnt };
    if (h->nfds > 0) {
        unsigned own = h->nfds - (memfd >= 0);
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(h->nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(h->nfds * sizeof(int));
        if (own > 0)
            memcpy(CMSG_DATA(c), fds, own * sizeof(int));
        if (memfd >= 0)
            memcpy(CMSG_DATA(c) + own * sizeof(int), &memfd, sizeof memfd);
    }
    return send_all(fd, &msg, err);
}

int wf_channel_send(int fd, enum wf_type type, unsigned flags, const struct iovec *iov, int iovcnt,
                    const int *fds, unsigned nfds, struct wf_err *err) {
    size_t size = 0;
    if (iovcnt > MAX_PARTS || nfds > WF_MAX_FDS)
        return wf_err_msg(err, "send message: %d parts and %u descriptors are too many", iovcnt,
                          nfds);
    for (int i = 0; i < iovcnt; i++) {
        if (iov[i].iov_len > WF_MAX_PAYLOAD || (size += iov[i].iov_len) > WF_MAX_PAYLOAD)
            return wf_err_msg(err, "send message: payload is larger than %u bytes", WF_MAX_PAYLOAD);
    }
    struct wf_header h = { .magic = WF_MAGIC,
                           .version = WF_PROTOCOL,
                           .type = (uint16_t)type,
                           .size = (uint32_t)size,
                           .nfds = (uint16_t)nfds,
                           .flags = (uint16_t)flags };
    if (size <= WF_INLINE_MAX)
        return send_message(fd, &h, iov, iovcnt, fds, -1, err);
    WF_AUTO_FD memfd = wf_memfd_sealed("warmfork-message", iov, iovcnt);
    if (memfd < 0)
        return wf_err_sys(err, "memfd_create", "warmfork-message");
    h.nfds++;
    h.flags |= WF_F_MEMFD;
    return send_message(fd, &h, NULL, 0, fds, memfd, err);
}
