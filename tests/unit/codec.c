#include "codec.h"

#include <stdlib.h>
#include <string.h>

#define SPAN(text) { .data = (const uint8_t *)(text), .size = sizeof(text) - 1 }
#define KEY { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255 }
#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static const char *const names[CODEC_COUNT] = {
    [CODEC_HEADER] = "header",   [CODEC_REQUEST] = "request",
    [CODEC_STARTED] = "started", [CODEC_EXITED] = "exited",
    [CODEC_TEXT] = "text",       [CODEC_READY] = "ready",
    [CODEC_STATS] = "stats",     [CODEC_DEFINITION] = "definition",
    [CODEC_BOUNDS] = "bounds",
};

const char *codec_name(enum codec codec) { return names[codec]; }

bool encode_whole_request(struct wf_buf *out, const struct wf_request *r) {
    return wf_encode_request(out, r) && wf_buf_add(out, r->strings.data, r->strings.size);
}

static void promise(bool kept) {
    if (!kept)
        abort();
}

/* What a worker relies on without looking again. */
static void check_promises(const struct wf_request *r) {
    promise(r->argc >= 1 && r->options < r->argc && r->target <= r->argc);
    promise(r->strings.data[r->strings.size - 1] == '\0');
    size_t total = 0;
    for (uint32_t i = 0; i < r->argc + r->envc; i++) {
        const char *text = wf_request_string(r, i);
        promise(text);
        if (i == r->target && i < r->argc)
            promise(r->target_offset <= strlen(text));
        total += strlen(text) + 1;
        if (i >= 64) /* walking is quadratic; the decoder has counted the rest */
            return;
    }
    promise(total == r->strings.size && !wf_request_string(r, r->argc + r->envc));
    promise(wf_request_nfds(WF_RUN, r) <= WF_MAX_FDS);
}

#define AGAIN(type, decode, encode)                                                                \
    {                                                                                              \
        struct type m;                                                                             \
        const char *wrong = decode(data, size, &m);                                                \
        if (!wrong && out)                                                                         \
            encode(out, &m);                                                                       \
        return wrong;                                                                              \
    }

static const char *request_again(const uint8_t *data, size_t size, struct wf_buf *out) {
    struct wf_request r;
    const char *wrong = wf_decode_request(data, size, &r);
    if (wrong)
        return wrong;
    check_promises(&r);
    if (out)
        encode_whole_request(out, &r);
    return NULL;
}

static const char *bounds_again(const uint8_t *data, size_t size, struct wf_buf *out) {
    struct wf_request r = { 0 };
    const char *wrong = wf_decode_bounds(data, size, &r);
    promise(r.bounded == !wrong);
    if (!wrong && out)
        wf_encode_bounds(out, &r);
    return wrong;
}

static const char *header_again(const uint8_t *data, size_t size, struct wf_buf *out) {
    struct wf_header h;
    if (size != WF_HEADER_SIZE)
        return "not the size of a header";
    const char *wrong = wf_decode_header(data, &h);
    if (!wrong && out)
        wf_encode_header(out, &h);
    return wrong;
}

const char *codec_again(enum codec codec, const uint8_t *data, size_t size, struct wf_buf *out) {
    switch (codec) {
    case CODEC_HEADER:
        return header_again(data, size, out);
    case CODEC_REQUEST:
        return request_again(data, size, out);
    case CODEC_STARTED:
        AGAIN(wf_started, wf_decode_started, wf_encode_started)
    case CODEC_EXITED:
        AGAIN(wf_exited, wf_decode_exited, wf_encode_exited)
    case CODEC_TEXT:
        AGAIN(wf_text, wf_decode_text, wf_encode_text)
    case CODEC_READY:
        AGAIN(wf_ready, wf_decode_ready, wf_encode_ready)
    case CODEC_STATS:
        AGAIN(wf_stats, wf_decode_stats, wf_encode_stats)
    case CODEC_DEFINITION:
        AGAIN(wf_definition, wf_decode_definition, wf_encode_definition)
    case CODEC_BOUNDS:
        return bounds_again(data, size, out);
    case CODEC_COUNT:
        break;
    }
    abort();
}

static const struct wf_header headers[] = {
    { WF_MAGIC, WF_PROTOCOL, WF_RUN, 1234, 5, 0 },
    { WF_MAGIC, WF_PROTOCOL, WF_WARM, WF_MAX_PAYLOAD, WF_MAX_FDS + 1, WF_F_MEMFD | WF_F_WAIT },
    { WF_MAGIC, WF_PROTOCOL, WF_TYPE_LAST, WF_INLINE_MAX, WF_MAX_FDS, 0 },
    { WF_MAGIC, WF_PROTOCOL, WF_ADOPT, 0, 0, 0 },
};
static const struct wf_started starteds[] = { { 1, 0 }, { 0x7fffffff, UINT64_MAX } };
static const struct wf_exited exiteds[] = {
    { WF_END_UNKNOWN, 0, 0 }, { WF_END_EXIT, 0, 0 },    { WF_END_EXIT, 255, 0 },
    { WF_END_SIGNAL, 11, 1 }, { WF_END_SIGNAL, 64, 0 },
};
static const struct wf_text texts[] = { { 0, SPAN("") },
                                        { WF_WHY_SETUP, SPAN("fchdir /gone: Permission denied") },
                                        { 1, SPAN("bytes \0 \xff") } };
static const struct wf_ready readies[] = {
    { 42, 0, WF_ASKED_NOTHING, KEY, SPAN(""), SPAN("/usr/bin/python3"), SPAN(""), SPAN(""),
      SPAN(""), SPAN(""), SPAN("3.11.2") },
    { 43, 3, WF_ASKED_DIRECTORY, KEY, SPAN("sage"), SPAN("/opt/p\xff/bin/python"),
      SPAN("-O\0-X\0utf8\0"), SPAN("pandas,numpy"), SPAN("/home/u/init.py"), SPAN("/home/u\xff"),
      SPAN("3.13.0rc1") },
};
static const struct wf_stats stats[] = { { 0, 0, 0, 0, 0 }, { 2, 9, 1u << 31, 77, UINT64_MAX } };
static const struct wf_definition definitions[] = {
    { SPAN("sage"), SPAN("sage.all"), SPAN("/home/u/warm_sage.py") },
    { SPAN("x"), SPAN(""), SPAN("") },
};

static const struct wf_request requests[] = {
    { .key = KEY,
      .pid = 1,
      .mode = WF_MODE_STDIN,
      .target = 1,
      .argc = 1,
      .python = SPAN("/usr/bin/python3"),
      .strings = SPAN("warmpy\0") },
    { .key = KEY,
      .base_key = { 9, 8, 7 },
      .variant = 3,
      .place = { .uid = { 1, 2, 3 },
                 .gid = { 4, 5, 6 },
                 .groups = 7,
                 .ns = { 11, 12, 13, 14, 15, 16, 17, 18 },
                 .root_dev = 21,
                 .root_ino = 22,
                 .caps = { 31, 32, 33 },
                 .no_new_privs = 1,
                 .personality = 0x40000 },
      .bounded = true,
      .limit = { { 8 << 20, UINT64_MAX }, [7] = { 1024, 4096 }, [15] = { 1, 2 } },
      .sig_ignored = 1 << 12,
      .sig_blocked = 1u << 31,
      .nice = -20,
      .sched = 3,
      .ioprio = -1,
      .marks = { -17, 1000, 2 },
      .umask = 027,
      .pid = 4321,
      .stdio = 5,
      .mode = WF_MODE_COMMAND,
      .target = 2,
      .target_offset = 2,
      .options = 1,
      .argc = 4,
      .envc = 3,
      .python = SPAN("/v/bin/python"),
      .zygote = SPAN("sage"),
      .preload = SPAN("pandas,sklearn.svm"),
      .init = SPAN("/w/init.py"),
      .directory = SPAN("/w/\xff"),
      .cpus = SPAN("\3\0\0\0\0\0\0\0"),
      .fdnums = SPAN("\3\0\0\0\xff\0\0\0\5\1\0\0"),
      .strings = SPAN("warmpy\0-O\0-cprint(1)\0\0A=1\0\0LC_ALL=\xff\0") },
    { .key = KEY,
      .pid = 7,
      .stdio = 7,
      .mode = WF_MODE_SCRIPT,
      .target = 1,
      .options = 0,
      .umask = 0777,
      .argc = 3,
      .envc = 1,
      .python = SPAN("/p"),
      .strings = SPAN("warmpy\0s.py\0--flag\0HOME=/\0") },
    { .key = KEY,
      .bounded = true,
      .mode = WF_MODE_MODULE,
      .target = 1,
      .target_offset = 5,
      .argc = 2,
      .python = SPAN("/p"),
      .strings = SPAN("w\0-mjson\0") },
};

const struct wf_request *sample_request(unsigned n) {
    return n < COUNT(requests) ? &requests[n] : NULL;
}

bool codec_sample(enum codec codec, unsigned n, struct wf_buf *out) {
    switch (codec) {
    case CODEC_HEADER:
        return n < COUNT(headers) && wf_encode_header(out, &headers[n]);
    case CODEC_REQUEST:
        return n < COUNT(requests) && encode_whole_request(out, &requests[n]);
    case CODEC_STARTED:
        return n < COUNT(starteds) && wf_encode_started(out, &starteds[n]);
    case CODEC_EXITED:
        return n < COUNT(exiteds) && wf_encode_exited(out, &exiteds[n]);
    case CODEC_TEXT:
        return n < COUNT(texts) && wf_encode_text(out, &texts[n]);
    case CODEC_READY:
        return n < COUNT(readies) && wf_encode_ready(out, &readies[n]);
    case CODEC_STATS:
        return n < COUNT(stats) && wf_encode_stats(out, &stats[n]);
    case CODEC_DEFINITION:
        return n < COUNT(definitions) && wf_encode_definition(out, &definitions[n]);
    case CODEC_BOUNDS:
        return n < COUNT(requests) && wf_encode_bounds(out, &requests[n]);
    case CODEC_COUNT:
        break;
    }
    return false;
}
