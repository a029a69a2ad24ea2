#include "base/buf.h"

#include "base/err.h"
#include <endian.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void wf_buf_init(struct wf_buf *buf, size_t max) { *buf = (struct wf_buf){ .max = max }; }

void wf_buf_init_fixed(struct wf_buf *buf, void *storage, size_t size) {
    *buf = (struct wf_buf){ .data = storage, .room = size, .max = size, .fixed = true };
}

void wf_buf_done(struct wf_buf *buf) {
    if (!buf->fixed)
        free(buf->data);
    *buf = (struct wf_buf){ .max = buf->fixed ? 0 : buf->max };
}

/* Only the slow half of wf_buf_reserve: doubles the block, up to the maximum. */
static bool grow(struct wf_buf *buf, size_t need) {
    if (buf->fixed || need > buf->max)
        return false;
    size_t room = buf->room ? buf->room : 128;
    while (room < need)
        room = room > buf->max / 2 ? buf->max : room * 2;
    room = room < buf->max ? room : buf->max;
    uint8_t *data = realloc(buf->data, room);
    if (!data)
        return false;
    buf->data = data;
    buf->room = room;
    return true;
}

uint8_t *wf_buf_reserve(struct wf_buf *buf, size_t size) {
    if (buf->failed)
        return NULL;
    if ((!buf->data || size > buf->room - buf->size) &&
        (size > SIZE_MAX - buf->size || !grow(buf, buf->size + size))) {
        buf->failed = true;
        return NULL;
    }
    return buf->data + buf->size;
}

bool wf_buf_add(struct wf_buf *buf, const void *data, size_t size) {
    if (size == 0)
        return !buf->failed;
    uint8_t *to = wf_buf_reserve(buf, size);
    if (!to)
        return false;
    memcpy(to, data, size);
    buf->size += size;
    return true;
}

static bool add_little_endian(struct wf_buf *buf, uint64_t value, size_t size) {
    uint8_t *to = wf_buf_reserve(buf, size);
    if (!to)
        return false;
    value = htole64(value);
    memcpy(to, &value, size);
    buf->size += size;
    return true;
}

bool wf_buf_add_u16(struct wf_buf *buf, uint16_t value) { return add_little_endian(buf, value, 2); }
bool wf_buf_add_u32(struct wf_buf *buf, uint32_t value) { return add_little_endian(buf, value, 4); }
bool wf_buf_add_u64(struct wf_buf *buf, uint64_t value) { return add_little_endian(buf, value, 8); }

bool wf_buf_addf(struct wf_buf *buf, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    size_t size = wf_vfmt_raw(NULL, 0, format, args);
    uint8_t *to = wf_buf_reserve(buf, size);
    if (to) {
        wf_vfmt_raw((char *)to, size, format, again);
        buf->size += size;
    }
    va_end(again);
    va_end(args);
    return to != NULL;
}
