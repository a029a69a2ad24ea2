#include "base/hash.h"

#include <endian.h>
#include <string.h>

static uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static void sip_round(uint64_t v[4]) {
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

static uint64_t load(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return le64toh(word);
}

static void store(uint8_t *p, uint64_t word) {
    word = htole64(word);
    memcpy(p, &word, sizeof word);
}

static void compress(struct wf_hash *h, uint64_t word) {
    h->v[3] ^= word;
    sip_round(h->v);
    sip_round(h->v);
    h->v[0] ^= word;
}

/* The key is that of the reference's test vectors, 00 01 … 0f: nothing here is secret, and so they
 * apply to us. */
void wf_hash_init(struct wf_hash *h) {
    const uint64_t k0 = 0x0706050403020100u, k1 = 0x0f0e0d0c0b0a0908u;
    *h = (struct wf_hash){ .v = {
                               0x736f6d6570736575u ^ k0,
                               0x646f72616e646f6du ^ k1 ^ 0xee,
                               0x6c7967656e657261u ^ k0,
                               0x7465646279746573u ^ k1,
                           } };
}

void wf_hash_add(struct wf_hash *h, const void *data, size_t size) {
    const uint8_t *p = data;
    size_t held = h->total % 8;
    h->total += size;
    if (held > 0) {
        size_t take = size < 8 - held ? size : 8 - held;
        if (take > 0)
            memcpy(h->tail + held, p, take);
        if (held + take < 8)
            return;
        compress(h, load(h->tail));
        p += take;
        size -= take;
    }
    for (; size >= 8; p += 8, size -= 8)
        compress(h, load(p));
    if (size > 0)
        memcpy(h->tail, p, size);
}

void wf_hash_field(struct wf_hash *h, const void *data, size_t size) {
    uint8_t length[8];
    store(length, size);
    wf_hash_add(h, length, sizeof length);
    wf_hash_add(h, data, size);
}

void wf_hash_done(struct wf_hash *h, uint8_t ret_digest[16]) {
    uint64_t last = h->total << 56;
    for (size_t i = 0; i < h->total % 8; i++)
        last |= (uint64_t)h->tail[i] << (8 * i);
    compress(h, last);
    h->v[2] ^= 0xee;
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 4; i++)
            sip_round(h->v);
        store(ret_digest + 8 * half, h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3]);
        h->v[1] ^= 0xdd;
    }
}

void wf_hash_hex(const uint8_t digest[16], char ret_hex[33]) {
    for (int i = 0; i < 16; i++) {
        ret_hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        ret_hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    ret_hex[32] = '\0';
}
