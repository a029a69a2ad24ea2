#include "channel/intake.h"

#include "base/cleanup.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#ifndef F_GET_SEALS /* musl hides these behind <linux/fcntl.h>, which clashes with <fcntl.h> */
#define F_GET_SEALS 1034
#define F_SEAL_SHRINK 2
#define F_SEAL_WRITE 8
#endif

#define KERNEL_MAX_FDS 253 /* SCM_MAX_FD: room for all, so that only a full table truncates */

void wf_intake_drop(struct intake *in) {
    while (*in->nfds > 0)
        wf_close(&in->fds[--*in->nfds]);
}

/* Moves every descriptor of `msg` to the intake; those beyond its room are closed. Returns false
 * when some were. */
static bool collect(struct intake *in, struct msghdr *msg) {
    bool fits = true;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (*in->nfds <= WF_MAX_FDS) {
                in->fds[(*in->nfds)++] = fd;
            } else {
                wf_close(&fd);
                fits = false;
            }
        }
    }
    return fits;
}

ssize_t wf_intake_receive(struct intake *in, int fd, void *data, size_t size, int flags, bool first,
                          struct wf_err *err) {
    union {
        char space[CMSG_SPACE(KERNEL_MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = { .iov_base = data, .iov_len = size };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    ssize_t got;
    do
        got = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return wf_err_sys(err, "recvmsg", "connection");
    unsigned before = *in->nfds;
    bool fits = collect(in, &msg);
    if (fits && !(msg.msg_flags & MSG_CTRUNC) && (first || *in->nfds == before))
        return got;
    wf_intake_drop(in);
    if (msg.msg_flags & MSG_CTRUNC)
        return wf_err_msg(err, "recvmsg connection: descriptors were lost, too many are open here");
    return wf_err_msg(err, fits ? "recvmsg connection: descriptors in the middle of a message"
                                : "recvmsg connection: too many descriptors");
}

int wf_intake_header(const struct intake *in, const uint8_t data[WF_HEADER_SIZE],
                     struct wf_header *ret, struct wf_err *err) {
    const char *wrong = wf_decode_header(data, ret);
    if (wrong)
        return wf_err_msg(err, "message header: %s", wrong);
    if (ret->nfds != *in->nfds)
        return wf_err_msg(err, "message header: %u descriptors declared, %u came",
                          (unsigned)ret->nfds, *in->nfds);
    return 0;
}

int wf_intake_map(struct wf_message *m, struct wf_err *err) {
    WF_AUTO_FD memfd = m->fds[--m->nfds];
    const int needed = F_SEAL_SHRINK | F_SEAL_WRITE;
    int seals = fcntl(memfd, F_GET_SEALS);
    if (seals < 0)
        return wf_err_sys(err, "fcntl F_GET_SEALS", "message memfd");
    if ((seals & needed) != needed)
        return wf_err_msg(err, "message memfd: not sealed");
    struct stat st;
    if (fstat(memfd, &st) < 0)
        return wf_err_sys(err, "fstat", "message memfd");
    if (st.st_size != (off_t)m->header.size)
        return wf_err_msg(err, "message memfd: %lld bytes, %u declared", (long long)st.st_size,
                          m->header.size);
    void *map = mmap(NULL, m->header.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, memfd, 0);
    if (map == MAP_FAILED)
        return wf_err_sys(err, "mmap", "message memfd");
    m->map = map;
    m->payload = map;
    return 0;
}
