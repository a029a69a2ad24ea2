/* What both receivers share: one recvmsg with its descriptors, and the checks on a whole message.
 * Private to channel. */
#pragma once

#include "channel/channel.h"

struct intake {
    int *fds; /* WF_MAX_FDS + 1 of them */
    unsigned *nfds;
};

/* Receives at most `size` bytes, never more, so that the next message stays in the socket with its
 * descriptors. Descriptors are added to the intake; they may come only with the header (`first`).
 * Returns the bytes received, 0 at end of file, -1 with err filled (err->code EAGAIN: nothing
 * there, not an error yet). */
ssize_t wf_intake_receive(struct intake *in, int fd, void *data, size_t size, int flags, bool first,
                          struct wf_err *err);

/* Decodes the header and compares the descriptors that came. */
int wf_intake_header(const struct intake *in, const uint8_t data[WF_HEADER_SIZE],
                     struct wf_header *ret, struct wf_err *err);

/* Takes the memfd off the descriptors of `m` and maps it as the payload. */
int wf_intake_map(struct wf_message *m, struct wf_err *err);

/* Closes all that came. */
void wf_intake_drop(struct intake *in);
