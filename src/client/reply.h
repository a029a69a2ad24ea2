/* What a worker says, read with as few system calls as possible: one per message, without waiting.
 */
#pragma once

#include "base/err.h"
#include "wire/wire.h"

struct wf_replies {
    int fd; /* the connection, owned; -1 after its end */
    /* descriptors that came and were not taken yet, owned; -1: none */
    int passed[WF_STARTED_FDS];
    bool lost; /* some came, but there was no free number for them */
    uint32_t size,
        used; /* bytes in `data`, and how many of them belong to the message handed out last */
    uint8_t
        data[1024]; /* a worker's messages are a few dozen bytes, a reason at most a few hundred */
};

void wf_replies_init(struct wf_replies *in, int fd); /* takes `fd` over */
void wf_replies_done(struct wf_replies *in);

/* 1: `ret_header` and `ret_payload` (valid until the next call) are the next message. 0: nothing
 * complete yet. -1: end of file, an error or nonsense; the connection is closed then. */
int wf_replies_next(struct wf_replies *in, struct wf_header *ret_header,
                    const uint8_t **ret_payload, struct wf_err *err);
