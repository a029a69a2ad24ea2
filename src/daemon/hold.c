/* A client that finds nothing warm runs its program cold, and asks for a zygote meanwhile. Warming
 * one up takes as much CPU as starting the program: done at once, it would slow that very program
 * down (a third, measured, where two virtual CPUs share a core). So it is held back until the
 * program has ended, somebody else asks as well, or it has become clear that the program runs for
 * long. */
#include "daemon/daemon.h"

#include "base/io.h"
#include <sys/syscall.h>
#include <unistd.h>

void wd_hold_release(struct daemon *d, struct wd_zygote *z) {
    if (z->state != ZS_HELD)
        return;
    wd_unwatch(d, &z->requester);
    z->why[0] = '\0';
    z->created_us = wf_now_us();
    z->deadline_us = z->created_us + WD_QUEUE_US;
    wd_zygote_event(d, z, wd_zygote_is_base(z) ? ZE_LAUNCH : ZE_QUEUE);
}

static void requester_ended(struct daemon *d, void *owner) { wd_hold_release(d, owner); }

bool wd_hold(struct daemon *d, struct wd_zygote *z, uint32_t pid) {
    struct wf_err err;
    int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, (pid_t)pid, 0) : -1;
    if (fd < 0 || wd_watch(d, &z->requester, fd, requester_ended, z, &err) < 0)
        return false;
    z->requester_pid = pid;
    z->held_until_us = wf_now_us() + WD_HOLD_US;
    wf_fmt(z->why, sizeof z->why, "until process %u, which asked for it, has ended", (unsigned)pid);
    wd_zygote_event(d, z, ZE_HOLD);
    return true;
}
