#include "codec.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static bool same(const struct wf_buf *a, const uint8_t *data, size_t size) {
    return a->size == size && memcmp(a->data, data, size) == 0;
}

/* In a block of exactly its size, so that a sanitizer sees any byte read beyond. */
static const char *again(enum codec codec, const uint8_t *data, size_t size, struct wf_buf *out) {
    uint8_t *copy = malloc(size ? size : 1);
    CHECK(copy);
    memcpy(copy, data, size);
    const char *wrong = codec_again(codec, size ? copy : NULL, size, out);
    free(copy);
    return wrong;
}

/* Calls `check` for every sample of every message. */
static void each(void (*check)(enum codec codec, const uint8_t *data, size_t size)) {
    for (enum codec codec = 0; codec < CODEC_COUNT; codec++) {
        unsigned n = 0;
        for (;; n++) {
            struct wf_buf buf;
            wf_buf_init(&buf, 1 << 20);
            bool there = codec_sample(codec, n, &buf);
            CHECK(!buf.failed);
            if (there)
                check(codec, buf.data, buf.size);
            wf_buf_done(&buf);
            if (!there)
                break;
        }
        CHECK(n >= 2);
    }
}

static void check_round_trip(enum codec codec, const uint8_t *data, size_t size) {
    struct wf_buf out;
    wf_buf_init(&out, 1 << 20);
    const char *wrong = again(codec, data, size, &out);
    if (wrong)
        test_fail(codec_name(codec), 0, "%s", wrong);
    CHECK(same(&out, data, size));
    wf_buf_done(&out);
}

TEST(every_message_survives_a_round_trip) { each(check_round_trip); }

static void check_truncation(enum codec codec, const uint8_t *data, size_t size) {
    for (size_t cut = 0; cut < size; cut++)
        if (!again(codec, data, cut, NULL))
            test_fail(codec_name(codec), 0, "accepted when cut to %zu bytes of %zu", cut, size);
}

TEST(every_truncation_is_refused) { each(check_truncation); }

static void check_trailing(enum codec codec, const uint8_t *data, size_t size) {
    uint8_t *longer = calloc(1, size + 1);
    CHECK(longer);
    memcpy(longer, data, size);
    CHECK(again(codec, longer, size + 1, NULL));
    free(longer);
}

TEST(trailing_bytes_are_refused) { each(check_trailing); }

/* Whatever a decoder accepts, the encoder gives back byte by byte: there is one form of each
 * message. */
static void check_corruption(enum codec codec, const uint8_t *data, size_t size) {
    static const uint8_t flips[] = { 0x01, 0x02, 0x10, 0x40, 0x80, 0xff };
    uint8_t *bad = malloc(size);
    CHECK(bad);
    for (size_t at = 0; at < size; at++)
        for (size_t i = 0; i < sizeof flips; i++) {
            memcpy(bad, data, size);
            bad[at] ^= flips[i];
            struct wf_buf out;
            wf_buf_init(&out, 1 << 20);
            if (!again(codec, bad, size, &out) && !same(&out, bad, size))
                test_fail(codec_name(codec), 0, "byte %zu ^ %02x: comes back differently", at,
                          flips[i]);
            wf_buf_done(&out);
        }
    free(bad);
}

TEST(every_corrupt_byte_is_refused_or_kept) { each(check_corruption); }

/* A length that lies, at every place where one could be. */
static void check_lengths(enum codec codec, const uint8_t *data, size_t size) {
    static const uint32_t lies[] = { 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffc, 0x00100001 };
    uint8_t *bad = malloc(size);
    CHECK(bad);
    for (size_t at = 0; at + 4 <= size; at++)
        for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
            memcpy(bad, data, size);
            memcpy(bad + at, &lies[i], 4);
            struct wf_buf out;
            wf_buf_init(&out, 1 << 20);
            if (!again(codec, bad, size, &out))
                CHECK(same(&out, bad, size));
            wf_buf_done(&out);
        }
    free(bad);
}

TEST(lying_lengths_are_refused_or_kept) { each(check_lengths); }

static void check_full(enum codec codec, const uint8_t *data, size_t size) {
    uint8_t storage[2048];
    for (size_t room = 0; room < size; room++) {
        struct wf_buf out;
        wf_buf_init_fixed(&out, storage, room);
        again(codec, data, size, &out);
        CHECK(out.failed && out.size <= room);
    }
}

TEST(encoders_say_when_it_did_not_fit) { each(check_full); }

TEST(a_refused_message_leaves_the_struct_alone) {
    uint8_t bytes[600] = { 0 };
    struct wf_request r, before;
    memset(&r, 0xa5, sizeof r);
    memset(&before, 0xa5, sizeof before);
    CHECK(wf_decode_request(bytes, sizeof bytes, &r));
    CHECK(memcmp(&r, &before, sizeof r) == 0);
}

/* The layout itself: docs/protocol.md gives these offsets. */
TEST(bytes_lie_where_the_specification_says) {
    uint8_t storage[2048];
    struct wf_buf out;
    struct wf_header h = { WF_MAGIC, 0x0102, 0x0304, 0x05060708, 0x090a, 0x0b0c };
    wf_buf_init_fixed(&out, storage, sizeof storage);
    CHECK(wf_encode_header(&out, &h));
    CHECK(same(&out, (const uint8_t *)"WMFK\2\1\4\3\10\7\6\5\12\11\14\13", WF_HEADER_SIZE));

    wf_buf_init_fixed(&out, storage, sizeof storage);
    CHECK(wf_encode_request(&out, sample_request(1)));
    static const struct {
        size_t at, size;
        const char *bytes;
    } fields[] = {
        { 0, 3, "\0\1\2" },             /* key */
        { 16, 3, "\11\10\7" },          /* base_key */
        { 32, 8, "\1\0\0\0\2\0\0" },    /* uid */
        { 44, 4, "\4\0\0" },            /* gid */
        { 56, 8, "\7\0\0\0\0\0\0" },    /* groups */
        { 64, 8, "\13\0\0\0\0\0\0" },   /* mount namespace */
        { 72, 1, "\25" },               /* root_dev */
        { 80, 1, "\26" },               /* root_ino */
        { 88, 1, "\37" },               /* caps */
        { 112, 4, "\1\0\0" },           /* no_new_privs */
        { 116, 4, "\0\0\4" },           /* personality */
        { 120, 4, "\0\0\0\200" },       /* sig_blocked */
        { 128, 1, "\27" },              /* umask */
        { 132, 2, "\xe1\20" },          /* pid */
        { 136, 1, "\3" },               /* variant */
        { 140, 1, "\5" },               /* stdio */
        { 144, 1, "\2" },               /* mode */
        { 148, 1, "\2" },               /* target */
        { 152, 1, "\2" },               /* target_offset */
        { 156, 1, "\1" },               /* options */
        { 160, 1, "\4" },               /* argc */
        { 164, 1, "\3" },               /* envc */
        { 168, 4, "\1\0\0" },           /* bounded */
        { 172, 1, "\14" },              /* pid namespace */
        { 220, 8, "\22\0\0\0\0\0\0" },  /* time namespace */
        { 228, 4, "\0\0\200" },         /* limit[0].soft */
        { 236, 2, "\xff\xff" },         /* limit[0].hard */
        { 468, 1, "\1" },               /* limit[15].soft */
        { 484, 2, "\0\20" },            /* sig_ignored */
        { 492, 4, "\xec\xff\xff\xff" }, /* nice */
        { 496, 1, "\3" },               /* sched */
        { 500, 2, "\xff\xff" },         /* ioprio */
        { 504, 2, "\xef\xff" },         /* oom_score_adj */
        { 508, 2, "\xe8\3" },           /* loginuid */
        { 512, 1, "\2" },               /* filters */
        { 516, 5, "\10\0\0\0\3" },      /* cpus */
        { 528, 6, "\15\0\0\0/v" },      /* python */
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (memcmp(storage + fields[i].at, fields[i].bytes, fields[i].size) != 0)
            test_fail(__FILE__, __LINE__, "request: offset %zu", fields[i].at);
    CHECK(memcmp(storage + out.size - 4, "\44\0\0\0", 4) == 0); /* size of strings */
}

/* One change to a good request, and what the decoder must say to it. */
static void refuse(const struct wf_request *r, const char *want) {
    struct wf_buf buf;
    wf_buf_init(&buf, WF_MAX_PAYLOAD);
    CHECK(encode_whole_request(&buf, r));
    const char *wrong = again(CODEC_REQUEST, buf.data, buf.size, NULL);
    wf_buf_done(&buf);
    CHECK_STRING(wrong ? wrong : "accepted", want);
}

#define REFUSE(want, ...)                                                                          \
    do {                                                                                           \
        struct wf_request r = *sample_request(1);                                                  \
        __VA_ARGS__;                                                                               \
        refuse(&r, want);                                                                          \
    } while (0)
#define SPAN(text) ((struct wf_span){ (const uint8_t *)(text), sizeof(text) - 1 })

TEST(a_request_that_lies_is_refused) {
    REFUSE("unknown mode", r.mode = 0);
    REFUSE("unknown mode", r.mode = 5);
    REFUSE("argc is zero", r.argc = 0);
    REFUSE("target is not one of the arguments", r.target = 4);
    REFUSE("target is not one of the arguments", r.target = 5, r.mode = WF_MODE_STDIN);
    REFUSE("options exceeds argc", r.options = 4);
    REFUSE("argc and envc do not match strings", r.argc++);
    REFUSE("argc and envc do not match strings", r.envc--);
    REFUSE("argc and envc do not match strings", r.envc = 0xffffffff - 2); /* wraps in 32 bits */
    REFUSE("argc and envc do not match strings", r.strings.size = 0);
    REFUSE("strings does not end with NUL", r.strings.size--);
    REFUSE("target_offset is past the end of its argument", r.target_offset = 11);
    REFUSE("target_offset is past the end of its argument", r.target_offset = 0xffffffff);
    REFUSE("target_offset is past the end of its argument", r.target = 4, r.target_offset = 1,
           r.mode = WF_MODE_STDIN);
    REFUSE("unknown stdio bits", r.stdio = 8);
    REFUSE("umask is out of range", r.umask = 01000);
    REFUSE("pid is out of range", r.pid = 0x80000000);
    REFUSE("variant is out of range", r.variant = 4);
}

TEST(a_request_with_odd_spans_is_refused) {
    static uint8_t big[WF_MAX_FDS * 4 + 4096 * 20];
    REFUSE("python is not an absolute path", r.python = SPAN(""));
    REFUSE("python is not an absolute path", r.python = SPAN("bin/python"));
    REFUSE("python is not an absolute path", r.python = SPAN("/bin\0/python"));
    REFUSE("python is too long", r.python.size = 4096, r.python.data = big);
    REFUSE("zygote is not a name", r.zygote = SPAN("a/b"));
    REFUSE("zygote is not a name", r.zygote = SPAN(".."));
    REFUSE("zygote is not a name", r.zygote = SPAN("a\0b"));
    REFUSE("zygote is too long", r.zygote.size = 256, r.zygote.data = big);
    REFUSE("preload holds a NUL", r.preload = SPAN("a\0"));
    REFUSE("preload is too long", r.preload.size = 65537, r.preload.data = big);
    REFUSE("init is not an absolute path", r.init = SPAN("init.py"));
    REFUSE("init is not an absolute path", r.init = SPAN("/\0"));
    REFUSE("init is too long", r.init.size = 4096, r.init.data = big);
    REFUSE("directory is not an absolute path", r.directory = SPAN("."));
    REFUSE("directory is not an absolute path", r.directory = SPAN("/\0"));
    REFUSE("directory is too long", r.directory.size = 4096, r.directory.data = big);
    REFUSE("cpus is too long", r.bounded = true, r.cpus.size = 1025, r.cpus.data = big);
    REFUSE("fdnums is not a list of numbers", r.fdnums = SPAN("\3\0\0"));
    REFUSE("fdnums holds a number that cannot be inherited", r.fdnums = SPAN("\2\0\0\0"));
    REFUSE("fdnums holds a number that cannot be inherited", r.fdnums = SPAN("\3\0\0\200"));
    memset(big, 7, sizeof big);
    REFUSE("fdnums is too long", r.fdnums.size = (WF_MAX_FDS - 3) * 4, r.fdnums.data = big);
    REFUSE("fdnums is too long", r.fdnums.size = (WF_MAX_FDS + 1) * 4, r.fdnums.data = big);
}

TEST(a_request_at_the_limits_is_taken) {
    static uint8_t fds[(WF_MAX_FDS - 4) * 4];
    memset(fds, 7, sizeof fds);
    uint8_t *text = malloc(6 << 20);
    CHECK(text);
    memset(text, 'x', 6 << 20);
    for (size_t i = 1; i <= 6 << 10; i++)
        text[i * 1024 - 1] = '\0';
    struct wf_request r = *sample_request(1), back;
    r.fdnums = (struct wf_span){ fds, sizeof fds };
    r.stdio = 7;
    r.strings = (struct wf_span){ text, 6 << 20 };
    r.argc = 5 << 10;
    r.envc = 1 << 10;
    struct wf_buf buf;
    wf_buf_init(&buf, WF_MAX_PAYLOAD);
    CHECK(encode_whole_request(&buf, &r));
    CHECK(!wf_decode_request(buf.data, buf.size, &back));
    CHECK_NUMBER(wf_request_nfds(WF_RUN, &back), WF_MAX_FDS);
    CHECK_NUMBER(strlen(wf_request_string(&back, 6143)), 1023);
    CHECK(!wf_request_string(&back, 6144));
    wf_buf_done(&buf);
    free(text);
}

TEST(ends_out_of_range_are_refused) {
    static const struct wf_exited bad[] = { { 3, 0, 0 },  { 1, 256, 0 }, { 1, 0, 1 }, { 2, 0, 0 },
                                            { 2, 65, 0 }, { 2, 9, 2 },   { 0, 1, 0 } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t storage[12];
        struct wf_buf out;
        wf_buf_init_fixed(&out, storage, sizeof storage);
        CHECK(wf_encode_exited(&out, &bad[i]));
        CHECK(codec_again(CODEC_EXITED, storage, sizeof storage, NULL));
    }
}

TEST(descriptor_counts_and_names) {
    CHECK_NUMBER(wf_request_nfds(WF_RUN, sample_request(1)), 2 + 1 + 3);
    CHECK_NUMBER(wf_request_nfds(WF_RUN, sample_request(0)), 1);
    CHECK_NUMBER(wf_request_nfds(WF_WARM, sample_request(1)), 0);
    CHECK_NUMBER(wf_request_nfds(WF_SPAWN, sample_request(1)), 1);
    CHECK_NUMBER(wf_request_nfds(WF_STARTED, NULL), WF_STARTED_FDS);
    CHECK_NUMBER(wf_request_nfds(WF_GONE, NULL), 0);
    CHECK_NUMBER(wf_request_nfds(WF_TERMINAL, NULL), 1);
    CHECK_NUMBER(wf_request_nfds(WF_KEEPER, NULL), 1);
    CHECK_NUMBER(wf_request_nfds((enum wf_type)(WF_TYPE_LAST + 1), NULL), -1);
    CHECK_NUMBER(wf_request_nfds((enum wf_type)0, NULL), -1);
    char name[48];
    wf_route_name(sample_request(0)->key, 3, true, name);
    CHECK_STRING(name, "000102030405060708090a0b0c0d0eff.3.ctl");
    wf_route_name(sample_request(0)->key, 0, false, name);
    CHECK_STRING(name, "000102030405060708090a0b0c0d0eff.0");
    CHECK_STRING(wf_request_string(sample_request(1), 2), "-cprint(1)");
    CHECK_STRING(wf_request_string(sample_request(1), 3), "");
    CHECK_STRING(wf_request_string(sample_request(1), 6), "LC_ALL=\xff");
    CHECK(!wf_request_string(sample_request(1), 7));
}
