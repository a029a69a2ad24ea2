#include "raw.h"

#include "base/cleanup.h"
#include "test.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void raw_pair(int ret_pair[2]) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_pair) == 0);
}

void raw_send(int fd, const void *data, size_t size, const int *fds, unsigned nfds) {
    union {
        char space[CMSG_SPACE(253 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = { .iov_base = (void *)data, .iov_len = size };
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
    CHECK_NUMBER(sendmsg(fd, &msg, MSG_NOSIGNAL), size);
}

const uint8_t *raw_header(enum wf_type type, uint32_t size, unsigned nfds, unsigned flags) {
    static uint8_t bytes[WF_HEADER_SIZE];
    struct wf_header h = { WF_MAGIC, WF_PROTOCOL,    (uint16_t)type,
                           size,     (uint16_t)nfds, (uint16_t)flags };
    struct wf_buf out;
    wf_buf_init_fixed(&out, bytes, sizeof bytes);
    CHECK(wf_encode_header(&out, &h));
    return bytes;
}

int raw_memfd(size_t size, int seals) {
    int fd = memfd_create("raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    CHECK(fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

struct witness raw_witness(void) {
    int ends[2];
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    return (struct witness){ .kept = ends[0], .sent = ends[1] };
}

void raw_check_closed(struct witness *w) {
    char byte;
    wf_close(&w->sent);
    CHECK(fcntl(w->kept, F_SETFL, O_NONBLOCK) == 0);
    CHECK_NUMBER(read(w->kept, &byte, 1), 0);
    wf_close(&w->kept);
}

bool same_file(int a, int b) {
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}
