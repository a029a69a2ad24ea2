/* All messages in one table, for tests and fuzz targets that treat them alike. */
#pragma once

#include "wire/wire.h"

enum codec {
    CODEC_HEADER,
    CODEC_REQUEST,
    CODEC_STARTED,
    CODEC_EXITED,
    CODEC_TEXT,
    CODEC_READY,
    CODEC_STATS,
    CODEC_DEFINITION,
    CODEC_BOUNDS,
    CODEC_COUNT
};

const char *codec_name(enum codec codec);

/* Decodes `data` and appends what the encoder makes of the result to `out` (may be NULL). Returns
 * what is wrong, or NULL. Everything that an accepted message promises is checked; a broken promise
 * aborts. */
const char *codec_again(enum codec codec, const uint8_t *data, size_t size, struct wf_buf *out);

/* Appends the n-th sample message; false when there is none. */
bool codec_sample(enum codec codec, unsigned n, struct wf_buf *out);

/* The n-th sample request, in static storage; NULL when there is none. */
const struct wf_request *sample_request(unsigned n);

/* The whole payload of a request, strings included. */
bool encode_whole_request(struct wf_buf *out, const struct wf_request *r);
