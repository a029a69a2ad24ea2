/* The two sockets of a zygote's route: where clients find its workers, and where they ask about one
 * that has ended. */
#include "zygote/zygote.h"

#include "base/io.h"
#include "channel/channel.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Looks at one of the two. False: it is not there (errno). */
static bool look_at(bool control, char path[160], uint64_t *ret) {
    struct stat st;
    char name[48];
    wf_route_name(zy.key, zy.variant, control, name);
    wf_fmt(path, 160, "%s/%s", zy.rundir, name);
    if (stat(path, &st) < 0)
        return false;
    *ret = st.st_ino;
    return true;
}

int zy_open(struct wf_err *err) {
    char name[48];
    int *const fds[] = { &zy.listen, &zy.ctl_listen, &zy.wake, &zy.refill };
    wf_route_name(zy.key, zy.variant, true, name);
    if (wf_channel_listen(zy.rundir, name, 64, &zy.ctl_listen, err) < 0)
        return -1;
    wf_route_name(zy.key, zy.variant, false, name);
    if (wf_channel_listen(zy.rundir, name, 256, &zy.listen, err) < 0)
        return -1;
    for (int control = 0; control < 2; control++) {
        char path[160];
        if (!look_at(control, path, &zy.route_ino[control]))
            return wf_err_sys(err, "stat", path);
    }
    zy.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    zy.refill = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (zy.wake < 0 || zy.refill < 0)
        return wf_err_sys(err, "eventfd", "to be woken by workers");
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        *fds[i] = wf_move_fd(*fds[i], ZY_FD_BASE);
    zy.serving = true;
    zy.target = ZY_STANDBY;
    zy.stats_due = true;
    return 0;
}

/* Only what is ours: a newer zygote may have taken the route. */
void zy_route_unlink(bool control) {
    char path[160];
    uint64_t found;
    if (look_at(control, path, &found) && found == zy.route_ino[control])
        unlink(path);
}

void zy_stop_serving(const char *reason) {
    if (!zy.serving)
        return;
    zy.serving = false;
    zy_route_unlink(false); /* the .ctl stays until the last run has ended: clients may still ask */
    zy_kill_standbys();
    wf_close(&zy.listen);
    zy_tell(WF_GONE, 0, reason);
}

/* The socket is gone or replaced: nobody can reach us any more (the runtime directory was removed,
 * or a newer zygote took the route). */
bool zy_route_lost(void) {
    char path[160];
    uint64_t found;
    if (!zy.serving)
        return false;
    return look_at(false, path, &found) ? found != zy.route_ino[0] : errno == ENOENT;
}
