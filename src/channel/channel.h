/* Messages over a unix stream socket: framing, descriptors, memfds.
 *
 * Every message declares its descriptor count; a wrong count, MSG_CTRUNC or a descriptor in the
 * middle of a message closes all that came, then is an error. */
#pragma once

#include "base/err.h"
#include "wire/wire.h"
#include <stdbool.h>

struct wf_message {
    struct wf_header header;
    uint8_t *payload; /* header.size bytes */
    int fds[WF_MAX_FDS + 1];
    unsigned nfds; /* those still owned; the memfd is already taken off and mapped */
    void *map;     /* the memfd's mapping (PROT_READ | PROT_WRITE, MAP_PRIVATE), or NULL */
    void *heap;    /* the payload's own block, or NULL when it lies in the caller's storage */
};

/* Connects to the socket `name` in directory `path`. Verifies with SO_PEERCRED that the listener's
 * uid is ours. */
int wf_channel_connect(const char *path, const char *name, int *ret_fd, struct wf_err *err);

/* Binds and listens on `path`/`name`: made under a temporary name, then renamed over it, so that it
 * appears ready. */
int wf_channel_listen(const char *path, const char *name, int backlog, int *ret_fd,
                      struct wf_err *err);

/* Fails unless the peer of the accepted socket has our effective uid (SO_PEERCRED). */
int wf_channel_check_peer(int fd, uint32_t *ret_pid, struct wf_err *err);

/* Sends one message: header (size and nfds are filled in), the parts of `iov` (at most 8) as
 * payload, and `fds`. A payload above WF_INLINE_MAX goes into a sealed memfd. Blocking; EPIPE is an
 * error, never a signal. */
int wf_channel_send(int fd, enum wf_type type, unsigned flags, const struct iovec *iov, int iovcnt,
                    const int *fds, unsigned nfds, struct wf_err *err);

/* Receives one message, blocking at most `timeout_ms` (-1: for ever) for the whole of it. The
 * payload goes to `storage` when it fits there, else to the heap or a mapping. Descriptors are
 * close-on-exec. Returns 1, 0 at a clean end of file before the first byte, -1 on error (EAGAIN in
 * err->code for a time-out). Verified: header, fd count, that a memfd is sealed (shrink, write) and
 * has the size declared. */
int wf_channel_receive(int fd, struct wf_message *ret, void *storage, size_t storage_size,
                       int timeout_ms, struct wf_err *err);

/* Closes the descriptors still in `fds` and releases map and heap. */
void wf_message_done(struct wf_message *m);

/* A framed non-blocking receiver for event loops: one per connection, owns its input buffer. */
struct wf_framer {
    struct wf_buf in;
    int fds[WF_MAX_FDS + 1];
    unsigned nfds;
};
void wf_framer_init(struct wf_framer *f);
void wf_framer_done(struct wf_framer *f);
/* Reads what is there. 1: a message was completed into `ret` (heap or map payload; call again), 0:
 * nothing more for now, -1: end of file (err->code 0, err->text "end of file") or error; close the
 * connection. */
int wf_framer_read(struct wf_framer *f, int fd, struct wf_message *ret, struct wf_err *err);
