/* Errors that name the call and the object.
 *
 * A function that can fail takes a `struct wf_err *` as its last argument, fills it and returns -1;
 * only `main` files print. errno is captured before anything else runs. `err` may be NULL where the
 * caller does not care. */
#pragma once

#include <stddef.h>

struct wf_err {
    int code;       /* errno of the failed call, or 0 when no system call failed */
    char text[320]; /* "connect /run/user/0/warmfork/daemon.sock: Connection refused" */
};

/* Fills `err` with "call object: strerror(errno)" and returns -1. `object` may be NULL. */
int wf_err_sys(struct wf_err *err, const char *call, const char *object);

/* Fills `err` with a formatted text (see wf_fmt) and code 0, and returns -1. */
int wf_err_msg(struct wf_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A small printf: %s %d %u %x %c %ld %lu %lx %zu %zd %lld %llu %% with optional zero-padded width
 * (%02x) and precision for %s (%.*s). No locale, no allocation, no stdio, so that the client need
 * not link it. Always terminates; returns the length written without the terminator (truncated to
 * `size` - 1). */
size_t wf_fmt(char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t wf_vfmt(char *out, size_t size, const char *format, __builtin_va_list args);

/* The same without terminator, and like snprintf returns the length of the whole text, of which at
 * most `room` bytes were written. `out` may be NULL when `room` is 0. */
size_t wf_vfmt_raw(char *out, size_t room, const char *format, __builtin_va_list args);
