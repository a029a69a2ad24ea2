#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* glibc's wording, whichever libc we are linked with. */
static const struct {
    int code;
    const char *text;
} errno_texts[] = {
    { EPERM, "Operation not permitted" },
    { ENOENT, "No such file or directory" },
    { ESRCH, "No such process" },
    { EINTR, "Interrupted system call" },
    { EIO, "Input/output error" },
    { ENXIO, "No such device or address" },
    { E2BIG, "Argument list too long" },
    { ENOEXEC, "Exec format error" },
    { EBADF, "Bad file descriptor" },
    { ECHILD, "No child processes" },
    { EAGAIN, "Resource temporarily unavailable" },
    { ENOMEM, "Cannot allocate memory" },
    { EACCES, "Permission denied" },
    { EFAULT, "Bad address" },
    { EBUSY, "Device or resource busy" },
    { EEXIST, "File exists" },
    { EXDEV, "Invalid cross-device link" },
    { ENODEV, "No such device" },
    { ENOTDIR, "Not a directory" },
    { EISDIR, "Is a directory" },
    { EINVAL, "Invalid argument" },
    { ENFILE, "Too many open files in system" },
    { EMFILE, "Too many open files" },
    { ENOTTY, "Inappropriate ioctl for device" },
    { ETXTBSY, "Text file busy" },
    { EFBIG, "File too large" },
    { ENOSPC, "No space left on device" },
    { ESPIPE, "Illegal seek" },
    { EROFS, "Read-only file system" },
    { EMLINK, "Too many links" },
    { EPIPE, "Broken pipe" },
    { EDOM, "Numerical argument out of domain" },
    { ERANGE, "Numerical result out of range" },
    { EDEADLK, "Resource deadlock avoided" },
    { ENAMETOOLONG, "File name too long" },
    { ENOLCK, "No locks available" },
    { ENOSYS, "Function not implemented" },
    { ENOTEMPTY, "Directory not empty" },
    { ELOOP, "Too many levels of symbolic links" },
    { ENODATA, "No data available" },
    { ETIME, "Timer expired" },
    { EPROTO, "Protocol error" },
    { EBADMSG, "Bad message" },
    { EOVERFLOW, "Value too large for defined data type" },
    { ELIBACC, "Can not access a needed shared library" },
    { ELIBBAD, "Accessing a corrupted shared library" },
    { EILSEQ, "Invalid or incomplete multibyte or wide character" },
    { EUSERS, "Too many users" },
    { ENOTSOCK, "Socket operation on non-socket" },
    { EMSGSIZE, "Message too long" },
    { EPROTOTYPE, "Protocol wrong type for socket" },
    { ENOPROTOOPT, "Protocol not available" },
    { EPROTONOSUPPORT, "Protocol not supported" },
    { EOPNOTSUPP, "Operation not supported" },
    { EAFNOSUPPORT, "Address family not supported by protocol" },
    { EADDRINUSE, "Address already in use" },
    { EADDRNOTAVAIL, "Cannot assign requested address" },
    { ENETDOWN, "Network is down" },
    { ENETUNREACH, "Network is unreachable" },
    { ECONNABORTED, "Software caused connection abort" },
    { ECONNRESET, "Connection reset by peer" },
    { ENOBUFS, "No buffer space available" },
    { EISCONN, "Transport endpoint is already connected" },
    { ENOTCONN, "Transport endpoint is not connected" },
    { ETOOMANYREFS, "Too many references: cannot splice" },
    { ETIMEDOUT, "Connection timed out" },
    { ECONNREFUSED, "Connection refused" },
    { EHOSTUNREACH, "No route to host" },
    { EALREADY, "Operation already in progress" },
    { EINPROGRESS, "Operation now in progress" },
    { ESTALE, "Stale file handle" },
    { EDQUOT, "Disk quota exceeded" },
    { ECANCELED, "Operation canceled" },
    { EKEYEXPIRED, "Key has expired" },
    { EOWNERDEAD, "Owner died" },
    { ENOTRECOVERABLE, "State not recoverable" },
};

static const char *errno_text(int code) {
    for (size_t i = 0; i < sizeof errno_texts / sizeof errno_texts[0]; i++)
        if (errno_texts[i].code == code)
            return errno_texts[i].text;
    return NULL;
}

int wf_err_sys(struct wf_err *err, const char *call, const char *object) {
    if (!err)
        return -1;
    int code = errno;
    const char *text = errno_text(code), *gap = object ? " " : "";
    err->code = code;
    if (text)
        wf_fmt(err->text, sizeof err->text, "%s%s%s: %s", call, gap, object ? object : "", text);
    else
        wf_fmt(err->text, sizeof err->text, "%s%s%s: errno %d", call, gap, object ? object : "",
               code);
    errno = code;
    return -1;
}

int wf_err_msg(struct wf_err *err, const char *format, ...) {
    if (!err)
        return -1;
    va_list args;
    va_start(args, format);
    wf_vfmt(err->text, sizeof err->text, format, args);
    va_end(args);
    err->code = 0;
    return -1;
}

struct sink {
    char *out;
    size_t room, length;
};

static void put(struct sink *s, const char *text, size_t size) {
    if (s->length < s->room) {
        size_t left = s->room - s->length;
        memcpy(s->out + s->length, text, size < left ? size : left);
    }
    s->length += size;
}

static void put_number(struct sink *s, uint64_t value, unsigned base, bool negative, bool zeros,
                       size_t width) {
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = "0123456789abcdef"[value % base];
    while ((value /= base) > 0);
    size_t size = sizeof digits - at + negative;
    if (negative && zeros)
        put(s, "-", 1);
    for (; size < width; size++)
        put(s, zeros ? "0" : " ", 1);
    if (negative && !zeros)
        put(s, "-", 1);
    put(s, digits + at, sizeof digits - at);
}

/* One conversion, as it stands behind the percent sign. */
struct spec {
    bool zeros;
    size_t width;
    int precision; /* -1: none */
    char size;     /* 'i', 'l', 'L' for ll, 'z' */
};

static const char *read_spec(const char *at, struct spec *ret, int star) {
    *ret = (struct spec){ .precision = -1, .size = 'i' };
    if (*at == '0') {
        ret->zeros = true;
        at++;
    }
    for (; *at >= '0' && *at <= '9'; at++)
        ret->width = ret->width * 10 + (size_t)(*at - '0');
    if (*at == '.') {
        ret->precision = 0;
        if (*++at == '*') {
            ret->precision = star;
            at++;
        }
        for (; *at >= '0' && *at <= '9'; at++)
            ret->precision = ret->precision * 10 + (*at - '0');
    }
    if (*at == 'z')
        ret->size = *at++;
    for (; *at == 'l'; at++)
        ret->size = ret->size == 'l' ? 'L' : 'l';
    return at;
}

static size_t bounded_length(const char *text, int precision) {
    if (precision < 0)
        return strlen(text);
    const char *end = memchr(text, '\0', (size_t)precision);
    return end ? (size_t)(end - text) : (size_t)precision;
}

size_t wf_vfmt_raw(char *out, size_t room, const char *format, va_list args) {
    struct sink s = { .out = out, .room = room };
    for (const char *at = format; *at; at++) {
        size_t plain = 0;
        while (at[plain] && at[plain] != '%')
            plain++;
        put(&s, at, plain);
        at += plain;
        if (!*at)
            break;
        struct spec spec;
        size_t digits = 1; /* the star of "%.*s" comes first among the arguments */
        while (at[digits] >= '0' && at[digits] <= '9')
            digits++;
        bool star = at[digits] == '.' && at[digits + 1] == '*';
        at = read_spec(at + 1, &spec, star ? va_arg(args, int) : -1);
        if (*at == 'd') {
            int64_t value = spec.size == 'i'   ? va_arg(args, int)
                            : spec.size == 'L' ? va_arg(args, long long)
                                               : va_arg(args, long);
            uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
            put_number(&s, magnitude, 10, value < 0, spec.zeros, spec.width);
        } else if (*at == 'u' || *at == 'x') {
            uint64_t value = spec.size == 'i'   ? va_arg(args, unsigned)
                             : spec.size == 'L' ? va_arg(args, unsigned long long)
                                                : va_arg(args, unsigned long);
            put_number(&s, value, *at == 'x' ? 16 : 10, false, spec.zeros, spec.width);
        } else if (*at == 's') {
            const char *text = va_arg(args, const char *);
            text = text ? text : "(null)";
            put(&s, text, bounded_length(text, spec.precision));
        } else if (*at == 'c') {
            char c = (char)va_arg(args, int);
            put(&s, &c, 1);
        } else if (*at == '%') {
            put(&s, "%", 1);
        } else {
            break; /* not one of ours: the compiler's format check is the guard, this only keeps
                      memory safe */
        }
    }
    return s.length;
}

size_t wf_vfmt(char *out, size_t size, const char *format, va_list args) {
    if (size == 0)
        return 0;
    size_t length = wf_vfmt_raw(out, size - 1, format, args);
    length = length < size - 1 ? length : size - 1;
    out[length] = '\0';
    return length;
}

size_t wf_fmt(char *out, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    size_t length = wf_vfmt(out, size, format, args);
    va_end(args);
    return length;
}
