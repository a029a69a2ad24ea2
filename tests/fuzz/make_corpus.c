/* Writes the corpus from what the real encoders make: make_corpus tests/fuzz/corpus. Run again when
 * a message changes. */
#include "../unit/codec.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *root;
static int failed;

static void save(const char *target, const char *name, const struct wf_buf *buf) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", root, target);
    if (mkdir(path, 0777) < 0 && errno != EEXIST)
        failed = 1;
    snprintf(path, sizeof path, "%s/%s/%s", root, target, name);
    WF_AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0 || buf->failed || wf_write_full(fd, buf->data, buf->size) < 0) {
        fprintf(stderr, "write %s: %s\n", path, strerror(errno));
        failed = 1;
    }
}

static void save_samples(enum codec codec) {
    for (unsigned n = 0;; n++) {
        char name[32];
        WF_AUTO_BUF buf;
        wf_buf_init(&buf, 1 << 20);
        if (!codec_sample(codec, n, &buf))
            return;
        snprintf(name, sizeof name, "sample-%u", n);
        save(codec_name(codec), name, &buf);
    }
}

static void add_send(struct wf_buf *out, unsigned fds, const void *data, size_t size) {
    uint8_t kinds = (uint8_t)fds;
    wf_buf_add(out, &kinds, 1);
    wf_buf_add_u16(out, (uint16_t)size);
    wf_buf_add(out, data, size);
}

/* A message with the n-th sample as payload, in `pieces` sends. */
static void add_message(struct wf_buf *out, enum wf_type type, enum codec codec, unsigned n,
                        unsigned nfds, size_t pieces) {
    WF_AUTO_BUF payload;
    WF_AUTO_BUF whole;
    wf_buf_init(&payload, 1 << 16);
    wf_buf_init(&whole, 1 << 16);
    codec_sample(codec, n, &payload);
    struct wf_header h = { WF_MAGIC,       WF_PROTOCOL,
                           (uint16_t)type, (uint32_t)payload.size,
                           (uint16_t)nfds, 0 };
    wf_encode_header(&whole, &h);
    wf_buf_add(&whole, payload.data, payload.size);
    size_t piece = (whole.size + pieces - 1) / pieces;
    for (size_t at = 0; at < whole.size; at += piece)
        add_send(out, at ? 0 : nfds, whole.data + at,
                 whole.size - at < piece ? whole.size - at : piece);
}

static void add_memfd_message(struct wf_buf *out, unsigned fds) {
    uint8_t bytes[WF_HEADER_SIZE];
    struct wf_buf head;
    struct wf_header h = { WF_MAGIC, WF_PROTOCOL, WF_WARM, STREAM_MEMFD_SIZE, 2, WF_F_MEMFD };
    wf_buf_init_fixed(&head, bytes, sizeof bytes);
    wf_encode_header(&head, &h);
    add_send(out, fds, bytes, sizeof bytes);
}

static void save_stream(const char *name, const struct wf_buf *stream) {
    save("framer", name, stream);
    save("channel", name, stream);
}

static void save_streams(void) {
    static const struct {
        const char *name;
        enum wf_type type;
        enum codec codec;
        unsigned n, nfds;
        size_t pieces;
    } list[] = {
        { "run", WF_RUN, CODEC_REQUEST, 0, 1, 1 },
        { "warm", WF_WARM, CODEC_REQUEST, 1, 0, 1 },
        { "drip", WF_REPLY, CODEC_TEXT, 1, 0, 100 },
        { "started", WF_STARTED, CODEC_STARTED, 1, 1, 3 },
        { "exited", WF_EXITED, CODEC_EXITED, 3, 0, 1 },
        { "ready", WF_READY, CODEC_READY, 1, 0, 2 },
        { "stats", WF_STATS, CODEC_STATS, 1, 0, 1 },
        { "bounds", WF_BOUNDS, CODEC_BOUNDS, 1, 0, 2 },
        { "spawn", WF_SPAWN, CODEC_REQUEST, 2, 1, 2 },
    };
    WF_AUTO_BUF all;
    wf_buf_init(&all, 1 << 20);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        WF_AUTO_BUF one;
        wf_buf_init(&one, 1 << 20);
        add_message(&one, list[i].type, list[i].codec, list[i].n, list[i].nfds, list[i].pieces);
        save_stream(list[i].name, &one);
        wf_buf_add(&all, one.data, one.size);
    }
    save_stream("all", &all);
    static const struct {
        const char *name;
        unsigned fds;
    } memfds[] = { { "memfd", 1 | STREAM_SEALED },
                   { "memfd-open", 1 | STREAM_OPEN },
                   { "memfd-none", 2 } };
    for (size_t i = 0; i < 3; i++) {
        WF_AUTO_BUF one;
        wf_buf_init(&one, 1 << 20);
        add_memfd_message(&one, memfds[i].fds);
        add_memfd_message(&one, memfds[i].fds);
        save_stream(memfds[i].name, &one);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    root = argv[1];
    if (mkdir(root, 0777) < 0 && errno != EEXIST)
        fprintf(stderr, "mkdir %s: %s\n", root, strerror(errno));
    for (enum codec codec = 0; codec < CODEC_COUNT; codec++)
        save_samples(codec);
    save_streams();
    return failed;
}
