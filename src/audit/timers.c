/* Timers, which a child does not inherit. */
#include "audit/probe.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define COUNTED_MAX 65536 /* ids that are tried one by one */

static int itimers(const struct wa_sink *sink, struct wf_err *err) {
    static const struct {
        __itimer_which_t which;
        const char *name;
    } timers[] = { { ITIMER_REAL, "ITIMER_REAL" },
                   { ITIMER_VIRTUAL, "ITIMER_VIRTUAL" },
                   { ITIMER_PROF, "ITIMER_PROF" } };
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) {
        struct itimerval value;
        if (getitimer(timers[i].which, &value) < 0)
            return wf_err_sys(err, "getitimer", timers[i].name);
        if (value.it_value.tv_sec || value.it_value.tv_usec)
            wa_say(sink, WA_ITIMER, (long)timers[i].which, timers[i].name, "");
    }
    return 0;
}

/* Linux with CONFIG_CHECKPOINT_RESTORE lists them: "ID: 0" and more for each. */
int wa_timers_listed(const struct wa_sink *sink) {
    char text[16384];
    if (wf_read_text(AT_FDCWD, "/proc/self/timers", text, sizeof text) < 0)
        return 1;
    for (const char *line = text; line != NULL && *line;
         line = strchr(line, '\n'), line += line != NULL)
        if (strncmp(line, "ID: ", 4) == 0) /* there is also a "ClockID: " */
            wa_say(sink, WA_POSIX_TIMER, strtol(line + 4, NULL, 10), "POSIX timer", "");
    return 0;
}

/* Ids are given in order: a new timer's says how many there may be, and each is asked for. */
int wa_timers_counted(const struct wa_sink *sink, struct wf_err *err) {
    struct sigevent none = { .sigev_notify = SIGEV_NONE };
    struct itimerspec value;
    int id; /* the kernel's own: the C library's timer_t may be a pointer */
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &none, &id) < 0)
        return wf_err_sys(err, "timer_create", "to see which others there are");
    syscall(SYS_timer_delete, id);
    if (id > COUNTED_MAX)
        return wf_err_msg(err, "%d timers were made, too many to ask for each", id);
    for (int i = 0; i < id; i++)
        if (syscall(SYS_timer_gettime, i, &value) == 0)
            wa_say(sink, WA_POSIX_TIMER, i, "POSIX timer", "");
    return 0;
}

int wa_timers(const struct wa_sink *sink, struct wf_err *err) {
    if (itimers(sink, err) < 0)
        return -1;
    return wa_timers_listed(sink) == 0 ? 0 : wa_timers_counted(sink, err);
}
