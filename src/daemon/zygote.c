/* The life of a zygote, as seen from here: a [state][event] table, and its actions. An event that
 * the table does not name in a state means nothing there. */
#include "daemon/daemon.h"

#include "base/io.h"
#include "base/log.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MAX_US (600 * WD_SECOND)
#define CRASH_US (5 * WD_SECOND) /* dead so soon after its first breath: as good as never ready */

static bool act_nothing(struct daemon *d, struct wd_zygote *z) {
    (void)d, (void)z;
    return true;
}

static void set_why(struct wd_zygote *z, const char *why) {
    if (!z->why[0])
        wf_fmt(z->why, sizeof z->why, "%s", why);
}

static bool act_launch(struct daemon *d, struct wd_zygote *z) {
    struct wf_err err;
    z->deadline_us = wf_now_us() + WD_LAUNCH_US;
    if (wd_launch_python(d, z, &err) == 0)
        return true;
    set_why(z, err.text);
    return false;
}

/* The base is the one settle.c found suitable: the READY one with the least variant that was not
 * tried. */
static bool act_spawn(struct daemon *d, struct wd_zygote *z) {
    struct wf_err err = { .text = "its base zygote is gone" };
    struct wd_zygote *base = wd_base_for(d, z);
    z->deadline_us = wf_now_us() + WD_WARM_US;
    if (base && wd_launch_candidate(d, z, base, &err) == 0)
        return true;
    set_why(z, err.text);
    return false;
}

static bool act_ready(struct daemon *d, struct wd_zygote *z) {
    (void)d;
    struct wf_err err;
    z->ready_us = z->used_us = wf_now_us();
    z->deadline_us = 0;
    z->why[0] = '\0';
    wf_close(&z->launch_fd);
    free(z->request);
    z->request = NULL;
    if (z->exit.fd < 0 && z->pid > 0 && wd_pid_watch(d, z, &err) < 0)
        wf_log(WF_LOG_WARN, "zygote %d: %s", (int)z->pid, err.text);
    struct wd_zygote *old = wd_zygote_failure(d, z->key);
    if (old) { /* remembered for as long as this one has not proved itself: see too_young */
        z->failures = old->failures;
        old->state = ZS_DEAD;
    }
    return true;
}

/* Another base may suit when this one did not: it has consulted variables that have other values
 * here. */
static bool act_refused(struct daemon *d, struct wd_zygote *z) {
    bool final = (z->code != WF_WHY_INPUTS && z->code != WF_WHY_STALE) || wd_zygote_is_base(z);
    if (final)
        return true;
    wd_unwatch(d, &z->control);
    wf_framer_done(&z->framer);
    wf_framer_init(&z->framer);
    z->deadline_us = wf_now_us() + WD_LAUNCH_US;
    wf_log(WF_LOG_INFO, "the base zygote does not suit: %s", z->why);
    z->why[0] = '\0';
    return false;
}

/* A candidate shares its base's stderr. */
static bool act_died(struct daemon *d, struct wd_zygote *z) {
    char how[80];
    struct wd_zygote *teller = z;
    if (z->why[0])
        return true;
    for (struct wd_zygote *base = d->zygotes; base && z->state == ZS_WARMING; base = base->next)
        if (base->id == z->base_id) {
            wd_errors_read(d, base);
            teller = base;
        }
    wd_status_text(z->status, how, sizeof how);
    wf_fmt(z->why, sizeof z->why, "%s %s before it was ready%s%s",
           z->state == ZS_WARMING ? "the candidate" : "python", how,
           teller->last_line[0] ? ": " : "", teller->last_line);
    return true;
}

/* Its end, with a status, follows at once; if not, it is up to no good. */
static bool act_closed(struct daemon *d, struct wd_zygote *z) {
    wd_unwatch(d, &z->control);
    z->deadline_us = wf_now_us() + WD_SECOND;
    return true;
}

static bool act_timeout(struct daemon *d, struct wd_zygote *z) {
    set_why(z, z->control.fd < 0 && z->state == ZS_LAUNCHING
                   ? "python closed the control channel before it was ready"
                   : "was not ready in time");
    wd_launch_kill(z, d);
    return true;
}

static bool act_kill(struct daemon *d, struct wd_zygote *z) {
    wd_launch_kill(z, d);
    wd_zygote_unlink(d, z, true); /* it may have been about to serve */
    return true;
}

/* A candidate, in the middle of imports that may take long: killed if it has said who it is. Its
 * end of the channel closes with it, and only then is it gone. */
static bool act_abandon(struct daemon *d, struct wd_zygote *z) {
    (void)d;
    z->dismissed = true;
    shutdown(z->control.fd, SHUT_WR);
    if (z->pid > 1)
        kill(z->pid, SIGKILL);
    z->deadline_us = wf_now_us() + WD_RETIRE_US;
    return true;
}

/* A control socket nobody answers on. */
static bool act_forget(struct daemon *d, struct wd_zygote *z) {
    wd_zygote_unlink(d, z, true);
    return true;
}

static bool act_dismiss(struct daemon *d, struct wd_zygote *z) {
    wd_send_text(z->control.fd, WF_RETIRE, 0, z->why);
    wd_zygote_unlink(d, z, false);
    return true;
}

/* The name goes first, so that nobody finds the zygote while it is on its way out, and its slot is
 * free. Its control socket stays until it ends: clients of programs that still run in it may have
 * to ask there. */
static bool act_retire(struct daemon *d, struct wd_zygote *z) {
    wd_zygote_unlink(d, z, false);
    z->dismissed = true;
    z->deadline_us = wf_now_us() + WD_RETIRE_US;
    if (wd_send_text(z->control.fd, WF_RETIRE, 0, z->why) < 0)
        kill(z->pid, SIGTERM);
    return true;
}

/* One that ends as soon as it was ready, having served nobody, is a failure as well: to start it
 * again and again for each program would cost more than it gives. */
static bool too_young(const struct wd_zygote *z) {
    return z->stats.served == 0 && wf_now_us() - z->ready_us < CRASH_US;
}

static bool act_gone(struct daemon *d, struct wd_zygote *z) {
    bool stale = z->code == WF_WHY_STALE || strncmp(z->why, "stale", 5) == 0;
    z->dismissed = stale || !too_young(z);
    z->gone = true;
    wd_zygote_unlink(d, z, false);
    z->deadline_us = wf_now_us() + WD_RETIRE_US;
    return true;
}

static bool act_lost(struct daemon *d, struct wd_zygote *z) {
    wd_unwatch(d, &z->control);
    set_why(z, "it closed its control channel");
    wd_zygote_unlink(d, z, false);
    z->deadline_us = wf_now_us() + WD_RETIRE_US;
    return z->exit.fd >= 0; /* else there is nothing left to hear from it */
}

/* Its end: expected, a crash, or the crash of something that cannot live at all. */
static bool act_end(struct daemon *d, struct wd_zygote *z) {
    char how[80];
    wd_zygote_unlink(d, z, true);
    if (z->dismissed)
        return true;
    wd_status_text(z->status, how, sizeof how);
    wf_log(WF_LOG_WARN, "zygote %d %s", (int)z->pid, how);
    bool killed = z->status != -1 && WIFSIGNALED(z->status) && WTERMSIG(z->status) == SIGKILL;
    if (!too_young(z) || killed) /* by somebody: that is not its fault */
        return true;
    if (!z->gone)
        wf_fmt(z->why, sizeof z->why, "the zygote %s as soon as it was ready", how);
    return false;
}

static bool act_eof_retiring(struct daemon *d, struct wd_zygote *z) {
    wd_unwatch(d, &z->control);
    if (z->exit.fd < 0) /* a candidate that may have been about to serve */
        wd_zygote_unlink(d, z, true);
    return z->exit.fd >= 0;
}

/* Programs may run in it for days. Without any, it had its time; killing it leaves what runs alone
 * in any case. */
static bool act_overdue(struct daemon *d, struct wd_zygote *z) {
    (void)d;
    if (z->stats.running == 0 && z->pid > 0) {
        wf_log(WF_LOG_WARN, "zygote %d does not end: killed", (int)z->pid);
        kill(z->pid, SIGKILL);
    }
    z->deadline_us = wf_now_us() + WD_RETIRE_US;
    return true;
}

#define ON(event_, action_, next_, ...)                                                            \
    [event_] = {                                                                                   \
        .action = action_, .next = next_, .otherwise = next_, .known = true, ##__VA_ARGS__         \
    }

#pragma GCC diagnostic ignored "-Woverride-init" /* ON's `otherwise` is given anew on purpose */
static const struct wd_transition table[ZS_COUNT][ZE_COUNT] = {
    [ZS_NEW] = {
        ON(ZE_ADOPT, act_nothing, ZS_ADOPTING),
        ON(ZE_HOLD, act_nothing, ZS_HELD),
        ON(ZE_QUEUE, act_nothing, ZS_WAITING),
        ON(ZE_LAUNCH, act_launch, ZS_LAUNCHING, .otherwise = ZS_FAILED),
    },
    [ZS_HELD] = {
        ON(ZE_QUEUE, act_nothing, ZS_WAITING),
        ON(ZE_LAUNCH, act_launch, ZS_LAUNCHING, .otherwise = ZS_FAILED),
        ON(ZE_RETIRE, act_nothing, ZS_DEAD),
    },
    [ZS_ADOPTING] = {
        ON(ZE_READY, act_ready, ZS_READY),
        ON(ZE_FAILED, act_forget, ZS_DEAD),
        ON(ZE_GONE, act_forget, ZS_DEAD),
        ON(ZE_EOF, act_forget, ZS_DEAD),
        ON(ZE_TIMEOUT, act_forget, ZS_DEAD),
        ON(ZE_RETIRE, act_dismiss, ZS_DEAD),
    },
    [ZS_WAITING] = {
        ON(ZE_BASE_READY, act_spawn, ZS_WARMING, .otherwise = ZS_FAILED),
        ON(ZE_BASE_LOST, act_nothing, ZS_FAILED),
        ON(ZE_TIMEOUT, act_timeout, ZS_FAILED),
        ON(ZE_RETIRE, act_nothing, ZS_DEAD),
    },
    [ZS_LAUNCHING] = {
        ON(ZE_READY, act_ready, ZS_READY),
        ON(ZE_FAILED, act_refused, ZS_FAILED),
        ON(ZE_EXIT, act_died, ZS_FAILED),
        ON(ZE_EOF, act_closed, ZS_LAUNCHING),
        ON(ZE_TIMEOUT, act_timeout, ZS_FAILED),
        ON(ZE_RETIRE, act_kill, ZS_DEAD),
    },
    [ZS_WARMING] = {
        ON(ZE_READY, act_ready, ZS_READY),
        ON(ZE_FAILED, act_refused, ZS_FAILED, .otherwise = ZS_WAITING),
        ON(ZE_EXIT, act_died, ZS_FAILED),
        ON(ZE_EOF, act_died, ZS_FAILED),
        ON(ZE_TIMEOUT, act_timeout, ZS_FAILED),
        ON(ZE_RETIRE, act_abandon, ZS_RETIRING),
    },
    [ZS_READY] = {
        ON(ZE_GONE, act_gone, ZS_RETIRING),
        ON(ZE_EXIT, act_end, ZS_DEAD, .otherwise = ZS_FAILED),
        ON(ZE_EOF, act_lost, ZS_RETIRING, .otherwise = ZS_DEAD),
        ON(ZE_RETIRE, act_retire, ZS_RETIRING),
    },
    [ZS_RETIRING] = {
        ON(ZE_EXIT, act_end, ZS_DEAD, .otherwise = ZS_FAILED),
        ON(ZE_EOF, act_eof_retiring, ZS_RETIRING, .otherwise = ZS_DEAD),
        ON(ZE_TIMEOUT, act_overdue, ZS_RETIRING),
    },
    [ZS_FAILED] = {
        ON(ZE_TIMEOUT, act_nothing, ZS_DEAD),
        ON(ZE_RETIRE, act_nothing, ZS_DEAD),
    },
};

const struct wd_transition *wd_zygote_transition(enum wd_state state, enum wd_event event) {
    const struct wd_transition *t = &table[state][event];
    return t->known ? t : NULL;
}

/* What every failure has in common: everything is closed, and the key rests for 1 s, 2 s, 4 s … 10
 * min. */
static void enter_failed(struct daemon *d, struct wd_zygote *z) {
    long long now = wf_now_us(), pause = WD_SECOND;
    struct wd_zygote *old = wd_zygote_failure(d, z->key);
    if (old) {
        z->failures = old->failures;
        old->state = ZS_DEAD;
    }
    z->failures++;
    for (unsigned i = 1; i < z->failures && pause < BACKOFF_MAX_US; i++)
        pause *= 2;
    z->retry_us = now + (pause < BACKOFF_MAX_US ? pause : BACKOFF_MAX_US);
    z->deadline_us = z->retry_us + BACKOFF_MAX_US; /* then it is forgotten */
    wd_zygote_close(d, z);
    free(z->request);
    z->request = NULL;
    z->pid = 0;
    set_why(z, "failed");
}

void wd_zygote_event(struct daemon *d, struct wd_zygote *z, enum wd_event event) {
    if (event == ZE_EXIT) { /* its last words, which are still on the way to us, come first */
        wd_errors_read(d, z);
        if (z->control.fd >= 0)
            wd_control_read(d, z);
    }
    enum wd_state before = z->state;
    const struct wd_transition *t = wd_zygote_transition(before, event);
    char label[160];
    if (!t)
        return;
    enum wd_state next = t->action(d, z) ? t->next : t->otherwise;
    if (next == ZS_FAILED && next != before)
        enter_failed(d, z); /* before it is found as its key's failure itself */
    else if (next == ZS_DEAD)
        wd_zygote_close(d, z);
    z->state = next;
    if (next == before)
        return;
    wd_zygote_label(z, label, sizeof label);
    wf_log(next == ZS_FAILED ? WF_LOG_WARN : WF_LOG_INFO, "%s (%d): %s%s%s", label, (int)z->pid,
           wd_state_name(next), z->why[0] ? ": " : "", z->why);
}
