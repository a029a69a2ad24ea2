/* A growable byte buffer with a hard maximum; appending past it fails once and for all (`failed`
 * stays set), so that a chain of appends needs one check at the end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wf_buf {
    uint8_t *data;
    size_t size, room, max;
    bool fixed;  /* storage is the caller's; never reallocated or freed */
    bool failed; /* an append did not fit or memory ran out */
};

void wf_buf_init(struct wf_buf *buf, size_t max);                       /* heap, grows up to max */
void wf_buf_init_fixed(struct wf_buf *buf, void *storage, size_t size); /* on caller's storage */
void wf_buf_done(struct wf_buf *buf);
bool wf_buf_add(struct wf_buf *buf, const void *data, size_t size);
uint8_t *wf_buf_reserve(struct wf_buf *buf,
                        size_t size); /* room for `size` more, to be filled and added to `size` */
bool wf_buf_add_u16(struct wf_buf *buf, uint16_t value); /* little endian, unaligned */
bool wf_buf_add_u32(struct wf_buf *buf, uint32_t value);
bool wf_buf_add_u64(struct wf_buf *buf, uint64_t value);
bool wf_buf_addf(struct wf_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3))); /* wf_fmt */
