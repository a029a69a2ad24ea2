/* Plays a stream (fuzz.h) into one end of a socket pair, for the receivers at the other. */
#pragma once

#include "channel/channel.h"

struct stream {
    const uint8_t *at, *end;
    int fd; /* the sending end; -1 once closed */
};

/* Opens the pair; returns the receiving end. */
int stream_open(struct stream *s, const uint8_t *data, size_t size);

/* Plays the next send. False when there is none, or none fits into the socket any more; the sending
 * end is closed then. */
bool stream_step(struct stream *s);
void stream_close(struct stream *s);

/* Reads every byte of a message, decodes it as a peer would, and releases it. */
void stream_consume(struct wf_message *m);

/* The lowest free descriptor: grows when one has leaked. */
int stream_lowest_fd(void);
