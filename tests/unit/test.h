/* A test runner of one page, after Wayland's: every test runs in a process of its own, with a time
 * limit, and must leave as many descriptors and children as it found. Prints TAP, and a last line
 * that counts. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};
void test_add(struct test *t);

#define TEST(id)                                                                                   \
    static void test_##id(void);                                                                   \
    __attribute__((constructor)) static void add_##id(void) {                                      \
        static struct test t = { .name = #id, .run = test_##id };                                  \
        test_add(&t);                                                                              \
    }                                                                                              \
    static void test_##id(void)

/* Ends the test as failed. */
__attribute__((noreturn, format(printf, 3, 4))) void test_fail(const char *file, int line,
                                                               const char *format, ...);
/* Ends the test as skipped: what it needs is not here. */
__attribute__((noreturn)) void test_skip(const char *why);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            test_fail(__FILE__, __LINE__, "%s", #condition);                                       \
    } while (0)
#define CHECK_NUMBER(got, want)                                                                    \
    do {                                                                                           \
        long long got_ = (long long)(got), want_ = (long long)(want);                              \
        if (got_ != want_)                                                                         \
            test_fail(__FILE__, __LINE__, "%s is %lld, not %lld", #got, got_, want_);              \
    } while (0)
#define CHECK_STRING(got, want)                                                                    \
    do {                                                                                           \
        const char *got_ = (got), *want_ = (want);                                                 \
        if (!got_ || !test_same(got_, want_))                                                      \
            test_fail(__FILE__, __LINE__, "%s is \"%s\", not \"%s\"", #got, got_ ? got_ : "NULL",  \
                      want_);                                                                      \
    } while (0)
bool test_same(const char *a, const char *b);

/* A fresh directory of this test's own, mode 0700; removed after the test by its parent. */
const char *test_dir(void);

/* Forks and runs `body(arg)`; the result of test_wait is its return value, or 128 + signal. */
int test_fork(int (*body)(void *arg), void *arg);
int test_wait(int pid);

int test_count_fds(void);
