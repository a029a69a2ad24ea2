#include "base/cleanup.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TEST(errors_name_call_object_and_reason) {
    struct wf_err err;
    errno = ECONNREFUSED;
    CHECK_NUMBER(wf_err_sys(&err, "connect", "/run/x"), -1);
    CHECK_STRING(err.text, "connect /run/x: Connection refused");
    CHECK_NUMBER(err.code, ECONNREFUSED);
    CHECK_NUMBER(errno, ECONNREFUSED);
    errno = 4000;
    wf_err_sys(&err, "pipe", NULL);
    CHECK_STRING(err.text, "pipe: errno 4000");
    CHECK_NUMBER(wf_err_msg(&err, "%s: %d", "odd", 7), -1);
    CHECK_STRING(err.text, "odd: 7");
    CHECK_NUMBER(err.code, 0);
    CHECK_NUMBER(wf_err_sys(NULL, "x", "y"), -1);
    CHECK_NUMBER(wf_err_msg(NULL, "x"), -1);
}

TEST(errno_texts_are_those_of_glibc) {
    for (int code = 1; code < 134; code++) {
        struct wf_err err;
        char want[128], number[32];
        errno = code;
        wf_err_sys(&err, "c", NULL);
        snprintf(want, sizeof want, "c: %s", strerror(code));
        snprintf(number, sizeof number, "c: errno %d", code);
        if (!test_same(err.text, want) && !test_same(err.text, number))
            test_fail(__FILE__, __LINE__, "%d: %s, not %s", code, err.text, want);
    }
}

TEST(a_long_error_is_cut) {
    struct wf_err err;
    char object[1000];
    memset(object, 'o', sizeof object);
    object[999] = '\0';
    errno = ENOENT;
    wf_err_sys(&err, "open", object);
    CHECK_NUMBER(strlen(err.text), sizeof err.text - 1);
}

#define SAME_AS_LIBC(...)                                                                          \
    do {                                                                                           \
        char want_text[256], got_text[256];                                                        \
        int want_size = snprintf(want_text, sizeof want_text, __VA_ARGS__);                        \
        CHECK_NUMBER(wf_fmt(got_text, sizeof got_text, __VA_ARGS__), want_size);                   \
        CHECK_STRING(got_text, want_text);                                                         \
    } while (0)

TEST(formats_are_those_of_printf) {
    SAME_AS_LIBC("%s", "plain");
    SAME_AS_LIBC("%d|%d|%d", 0, INT_MIN, INT_MAX);
    SAME_AS_LIBC("%u %x %c %%", UINT_MAX, 0xdeadbeef, 'c');
    SAME_AS_LIBC("%ld %lu %lx", LONG_MIN, ULONG_MAX, ULONG_MAX);
    SAME_AS_LIBC("%lld %llu %zu %zd", LLONG_MIN, ULLONG_MAX, (size_t)-1, (ssize_t)-1);
    SAME_AS_LIBC("%02x%02x %04d %08ld %3d|%3d", 5, 0xab, -7, -1234L, -1, 1000);
    SAME_AS_LIBC("%.*s|%.3s|%.0s|%.9s", 2, "abc", "abcdef", "zzz", "short");
    SAME_AS_LIBC("%s%s%s", "", "x", "");
}

TEST(formats_are_cut_at_the_end) {
    char text[8];
    memset(text, '#', sizeof text);
    CHECK_NUMBER(wf_fmt(text, 5, "%s %d", "abc", 12345), 4);
    CHECK_STRING(text, "abc ");
    CHECK_NUMBER(text[5], '#');
    CHECK_NUMBER(wf_fmt(text, 0, "x"), 0);
    CHECK_NUMBER(wf_fmt(text, 1, "x"), 0);
    CHECK_STRING(text, "");
}

TEST(a_buffer_grows_to_its_maximum_and_no_further) {
    WF_AUTO_BUF buf;
    wf_buf_init(&buf, 1000);
    for (int i = 0; i < 100; i++)
        CHECK(wf_buf_add(&buf, "0123456789", 10));
    CHECK_NUMBER(buf.size, 1000);
    CHECK(!wf_buf_add(&buf, "x", 1) && buf.failed);
    CHECK_NUMBER(buf.size, 1000);
    CHECK(!wf_buf_add(&buf, "", 0)); /* once and for all */
}

TEST(a_buffer_takes_hostile_sizes) {
    WF_AUTO_BUF buf;
    wf_buf_init(&buf, 100);
    CHECK(wf_buf_add_u16(&buf, 0x0201));
    CHECK(!wf_buf_reserve(&buf, SIZE_MAX));
    wf_buf_done(&buf);
    wf_buf_init(&buf, SIZE_MAX);
    CHECK(wf_buf_add_u32(&buf, 7));
    CHECK(!wf_buf_reserve(&buf, SIZE_MAX - 2));
    CHECK_NUMBER(buf.size, 4);
}

TEST(a_fixed_buffer_stays_where_it_is) {
    uint8_t storage[14];
    struct wf_buf buf;
    wf_buf_init_fixed(&buf, storage, sizeof storage);
    CHECK(wf_buf_add_u16(&buf, 0x0102) && wf_buf_add_u32(&buf, 0x03040506));
    CHECK(wf_buf_add_u64(&buf, 0x0708090a0b0c0d0e));
    CHECK(memcmp(storage, "\2\1\6\5\4\3\16\15\14\13\12\11\10\7", 14) == 0);
    CHECK(!wf_buf_add(&buf, "x", 1));
    CHECK(buf.data == storage);
    wf_buf_done(&buf);
}

TEST(a_buffer_takes_formatted_text_of_any_length) {
    char word[501];
    memset(word, 'w', 500);
    word[500] = '\0';
    WF_AUTO_BUF buf;
    wf_buf_init(&buf, 1502);
    CHECK(wf_buf_addf(&buf, "%s", ""));
    CHECK(wf_buf_addf(&buf, "%s-%s", word, word));
    CHECK(wf_buf_addf(&buf, "-%.500s", word));
    CHECK_NUMBER(buf.size, 1502);
    CHECK(!wf_buf_addf(&buf, "%d", 1) && buf.failed);
    CHECK_NUMBER(buf.size, 1502);
}

static void check_digest(size_t size, size_t step, const char *want) {
    struct wf_hash h;
    uint8_t bytes[64], digest[16];
    char hex[33];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    wf_hash_init(&h);
    for (size_t at = 0; at < size; at += step)
        wf_hash_add(&h, bytes + at, size - at < step ? size - at : step);
    wf_hash_done(&h, digest);
    wf_hash_hex(digest, hex);
    CHECK_STRING(hex, want);
}

/* From the vectors that the authors of SipHash publish for 128 bits. */
TEST(the_hash_is_siphash_2_4_128) {
    static const struct {
        size_t size;
        const char *digest;
    } vectors[] = {
        { 0, "a3817f04ba25a8e66df67214c7550293" },  { 1, "da87c1d86b99af44347659119b22fc45" },
        { 7, "a1f1ebbed8dbc153c0b84aa61ff08239" },  { 8, "3b62a9ba6258f5610f83e264f31497b4" },
        { 9, "264499060ad9baabc47f8b02bb6d71ed" },  { 15, "5493e99933b0a8117e08ec0f97cfc3d9" },
        { 16, "6ee2a4ca67b054bbfd3315bf85230577" }, { 63, "5150d1772f50834a503e069a973fbd7c" },
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        for (size_t step = 1; step <= 64; step++) /* in any pieces */
            check_digest(vectors[i].size, step, vectors[i].digest);
}

TEST(hashed_fields_keep_their_borders) {
    struct wf_hash a, b;
    uint8_t x[16], y[16];
    wf_hash_init(&a);
    wf_hash_field(&a, "ab", 2);
    wf_hash_field(&a, "c", 1);
    wf_hash_done(&a, x);
    wf_hash_init(&b);
    wf_hash_field(&b, "a", 1);
    wf_hash_field(&b, "bc", 2);
    wf_hash_done(&b, y);
    CHECK(memcmp(x, y, 16) != 0);
    wf_hash_init(&a);
    wf_hash_add(&a, NULL, 0);
    wf_hash_done(&a, x);
}

static int make_file(const char *name, const char *text, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && wf_write_full(fd, text, size) == 0);
    close(fd);
    return open(test_dir(), O_PATH | O_DIRECTORY | O_CLOEXEC);
}

TEST(a_file_is_read_up_to_its_limit) {
    char *data;
    size_t size;
    WF_AUTO_FD at = make_file("f", "hello", 5);
    CHECK_NUMBER(wf_read_file(at, "f", 5, &data, &size), 0);
    CHECK_STRING(data, "hello");
    CHECK_NUMBER(size, 5);
    free(data);
    CHECK_NUMBER(wf_read_file(at, "f", 4, &data, &size), -1);
    CHECK_NUMBER(errno, EFBIG);
    CHECK_NUMBER(wf_read_file(at, "g", 4, &data, &size), -1);
    CHECK_NUMBER(errno, ENOENT);
    CHECK_NUMBER(wf_read_file(AT_FDCWD, "/proc/self/maps", 1 << 20, &data, &size), 0);
    CHECK(size > 0 && strlen(data) == size); /* the kernel says 0 bytes */
    free(data);
    CHECK_NUMBER(wf_read_file(AT_FDCWD, "/proc/self/maps", 100, &data, &size), -1);
    CHECK_NUMBER(wf_read_file(at, ".", 100, &data, &size), -1);
    CHECK_NUMBER(errno, EISDIR);
}

TEST(writes_never_raise_sigpipe_on_sockets) {
    int pair[2], ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK_NUMBER(wf_write_full(pair[0], "abc", 3), 0);
    char text[8] = "";
    close(pair[0]);
    CHECK_NUMBER(wf_read_full(pair[1], text, sizeof text), 3); /* short at end of file */
    CHECK_STRING(text, "abc");
    CHECK_NUMBER(wf_write_full(pair[1], "abc", 3), -1);
    CHECK_NUMBER(errno, EPIPE);
    close(pair[1]);
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    CHECK_NUMBER(wf_write_full(ends[1], "abc", 3), 0);
    CHECK_NUMBER(wf_read_full(ends[0], text, 2), 2);
    wf_close(&ends[0]);
    wf_close(&ends[0]); /* -1 by now */
    wf_close(&ends[1]);
}

TEST(descriptors_move_up_and_stay_close_on_exec) {
    int fd = open("/dev/null", O_RDONLY);
    int moved = wf_move_fd(fd, 200);
    CHECK_NUMBER(moved, 200);
    CHECK_NUMBER(fcntl(fd, F_GETFD), -1);
    CHECK_NUMBER(fcntl(moved, F_GETFD), FD_CLOEXEC);
    CHECK_NUMBER(wf_move_fd(moved, 200), 200);     /* there already */
    CHECK_NUMBER(wf_move_fd(moved, INT_MAX), 200); /* no room */
    close(moved);
}

TEST(a_memfd_is_sealed_against_everything) {
    struct iovec iov[] = { { (void *)"ab", 2 }, { NULL, 0 }, { (void *)"cde", 3 } };
    WF_AUTO_FD fd = wf_memfd_sealed("test", iov, 3);
    CHECK(fd >= 0);
    CHECK_NUMBER(fcntl(fd, F_GETFD), FD_CLOEXEC);
    char text[8] = "";
    CHECK_NUMBER(pread(fd, text, 8, 0), 5);
    CHECK_STRING(text, "abcde");
    CHECK(pwrite(fd, "x", 1, 0) < 0 && ftruncate(fd, 0) < 0 && ftruncate(fd, 100) < 0);
}

TEST(a_log_line_is_one_line) {
    int ends[2];
    char text[4096] = "", big[2000];
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    wf_log(WF_LOG_ERROR, "dropped");
    wf_log_open(ends[1], "daemon", WF_LOG_INFO);
    wf_log(WF_LOG_DEBUG, "not this");
    errno = 5;
    wf_log(WF_LOG_INFO, "two\nlines %d", 7);
    CHECK_NUMBER(errno, 5);
    CHECK(read(ends[0], text, sizeof text - 1) > 0);
    int year, month, day, hour, minute, second, ms, pid, end = 0;
    CHECK_NUMBER(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3d daemon[%d] info: two lines 7\n%n", &year,
                        &month, &day, &hour, &minute, &second, &ms, &pid, &end),
                 8);
    CHECK_NUMBER(end, strlen(text));
    CHECK_NUMBER(pid, getpid());
    CHECK(year >= 2024 && month >= 1 && month <= 12 && day >= 1 && day <= 31 && hour < 24);
    memset(big, 'b', sizeof big);
    big[1999] = '\0';
    wf_log(WF_LOG_ERROR, "%s", big);
    ssize_t size = read(ends[0], text, sizeof text);
    CHECK(size > 1000 && size <= 1024 && text[size - 1] == '\n');
    wf_log_open(-1, "daemon", WF_LOG_INFO);
    close(ends[0]);
    close(ends[1]);
}
