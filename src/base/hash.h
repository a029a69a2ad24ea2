/* SipHash-2-4 with 128 bits of output (Aumasson and Bernstein), streaming. Collisions by accident
 * are out of the question at 128 bits; collisions on purpose are the user's own affair (only their
 * own uid reaches us). */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct wf_hash {
    uint64_t v[4], total;
    uint8_t tail[8];
};

void wf_hash_init(struct wf_hash *h);
void wf_hash_add(struct wf_hash *h, const void *data, size_t size); /* raw bytes */
void wf_hash_field(struct wf_hash *h, const void *data,
                   size_t size); /* u64 length, then the bytes */
void wf_hash_done(struct wf_hash *h, uint8_t ret_digest[16]);

/* `digest` as 32 lower-case hexadecimal digits and a NUL. */
void wf_hash_hex(const uint8_t digest[16], char ret_hex[33]);
