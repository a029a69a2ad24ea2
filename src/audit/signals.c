/* Signals that wait, which a child does not get, and those that are blocked, which it inherits. */
#include "audit/probe.h"

#include <signal.h>

static void say_set(const struct wa_sink *sink, enum wa_kind kind, const sigset_t *set) {
    for (int number = 1; number < NSIG; number++) {
        char text[24];
        if (sigismember(set, number) != 1)
            continue;
        wf_fmt(text, sizeof text, "signal %d", number);
        wa_say(sink, kind, number, text, "");
    }
}

int wa_signals(const struct wa_sink *sink, struct wf_err *err) {
    sigset_t set;
    if (sigpending(&set) < 0)
        return wf_err_sys(err, "sigpending", NULL);
    say_set(sink, WA_PENDING, &set);
    if (sigprocmask(SIG_BLOCK, NULL, &set) < 0)
        return wf_err_sys(err, "sigprocmask", NULL);
    say_set(sink, WA_BLOCKED, &set);
    return 0;
}
