#include "base/log.h"

#include "base/err.h"
#include "base/io.h"
#include <errno.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

static struct {
    int fd;
    const char *role;
    enum wf_log_level level;
} sink = { .fd = -1, .role = "?" };

void wf_log_open(int fd, const char *role, enum wf_log_level level) {
    sink.fd = fd;
    sink.role = role;
    sink.level = level;
}

/* UTC by our own arithmetic (days to civil date, after Howard Hinnant): localtime takes a lock and
 * reads TZ, neither of which suits a process that forks. */
static size_t put_time(char *out, size_t size) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    long seconds = (long)(now.tv_sec % 86400), days = (long)(now.tv_sec / 86400) + 719468;
    long era = days / 146097, day_of_era = days % 146097;
    long year = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    long day = day_of_era - (365 * year + year / 4 - year / 100);
    long month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5 - 1;
    month += month < 10 ? 3 : -9;
    year += era * 400 + (month <= 2);
    return wf_fmt(out, size, "%04ld-%02ld-%02ldT%02ld:%02ld:%02ld.%03ld", year, month, day,
                  seconds / 3600, seconds / 60 % 60, seconds % 60, now.tv_nsec / 1000000);
}

void wf_log(enum wf_log_level level, const char *format, ...) {
    static const char *const names[] = { "error", "warn", "info", "debug" };
    if (sink.fd < 0 || level > sink.level)
        return;
    int saved = errno;
    char line[1024];
    size_t size = put_time(line, sizeof line);
    size += wf_fmt(line + size, sizeof line - size, " %s[%d] %s: ", sink.role, (int)getpid(),
                   names[level]);
    va_list args;
    va_start(args, format);
    size_t end = size + wf_vfmt(line + size, sizeof line - size, format, args);
    va_end(args);
    for (; size < end; size++) /* one line per event, whatever the text holds */
        if ((unsigned char)line[size] < ' ' || line[size] == 127)
            line[size] = ' ';
    line[end] = '\n';
    wf_write_full(sink.fd, line, end + 1);
    errno = saved;
}
