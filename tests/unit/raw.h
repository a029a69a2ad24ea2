/* The peer that keeps no promise: bytes and descriptors sent as a test likes. */
#pragma once

#include "channel/channel.h"

/* A connected pair; [0] is ours, [1] the peer's. */
void raw_pair(int ret_pair[2]);

void raw_send(int fd, const void *data, size_t size, const int *fds, unsigned nfds);

/* A header as bytes. */
const uint8_t *raw_header(enum wf_type type, uint32_t size, unsigned nfds, unsigned flags);

/* A memfd of `size` bytes with these seals. */
int raw_memfd(size_t size, int seals);

/* Both ends of a pipe, of which only one is sent somewhere and then closed: end of file on the
 * other proves that the receiver has closed it as well. */
struct witness {
    int kept, sent;
};
struct witness raw_witness(void);
void raw_check_closed(struct witness *w);

bool same_file(int a, int b);
