/* The caller's terminal and the program's in step: modes, size, who is in the foreground. */
#include "client/terminal.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A change of modes wakes those who wait for room in a terminal, and an edge-triggered watch
 * reports each such waking: nothing else does, but for polling. */
int wf_modes_watch(int slave) {
    struct epoll_event event = { .events = EPOLLOUT | EPOLLET };
    int fd = (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
    if (fd >= 0)
        syscall(SYS_epoll_ctl, fd, EPOLL_CTL_ADD, slave, &event);
    return fd;
}

void wf_modes_forget_change(const struct wf_terminal *t) {
    struct epoll_event event;
    syscall(SYS_epoll_pwait, t->changes, &event, 1, 0, NULL, 8);
}

void wf_modes_copy_size(const struct wf_terminal *t) {
    uint16_t size[4];
    if (t->master >= 0 && ioctl(t->real, WF_TTY_SIZE, size) == 0)
        ioctl(t->master, WF_TTY_SET_SIZE, size);
}

static bool same_modes(const struct wf_modes *a, const struct wf_modes *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

/* Gives the caller's terminal these modes. */
static void set_outer(struct wf_terminal *t, const struct wf_modes *modes) {
    if (ioctl(t->real, WF_TTY_SET_MODES, modes) == 0)
        t->outer = *modes;
}

static void make_raw(struct wf_terminal *t) {
    struct wf_modes raw = t->modes;
    raw.input &= ~WF_INPUT_RAW_OFF;
    raw.output &= ~WF_OUTPUT_PROCESSED;
    raw.local &= ~(WF_LOCAL_ECHO | WF_LOCAL_ECHO_NEWLINE | WF_LOCAL_CANONICAL | WF_LOCAL_SIGNALS |
                   WF_LOCAL_EXTENDED);
    raw.key[WF_KEY_LEAST] = 1;
    raw.key[WF_KEY_TIME] = 0;
    wf_keeper_command(t, WF_KEEPER_RAW);
    t->raw = true;
    t->literal = false;
    set_outer(t, &raw);
}

void wf_modes_leave_raw(struct wf_terminal *t) {
    set_outer(t, &t->modes);
    if (t->raw)
        wf_keeper_command(t, WF_KEEPER_RESTORED);
    t->raw = false;
}

/* The worker sends one before its program can change modes. It has to know of a raw terminal before
 * that is one: at no moment may there be nobody who would restore it. */
static void take_keeper(struct wf_terminal *t) {
    if (t->keeper < 0)
        wf_run_check(t->run, false);
    wf_keeper_take(t);
}

/* Modes that the program sets are set for the caller's terminal too, in the foreground; but what
 * works on single keys is done by the program's terminal alone. Those that it finds and leaves
 * alone may have been set by others, such as a pager that shows its output. */
void wf_modes_follow(struct wf_terminal *t) {
    struct wf_modes now;
    if (t->master < 0 || ioctl(t->slave, WF_TTY_MODES, &now) < 0 || same_modes(&now, &t->modes))
        return;
    t->modes = now;
    t->keys = !(now.local & WF_LOCAL_CANONICAL);
    if (t->keys)
        take_keeper(t);
    if (!t->foreground)
        return;
    if (t->keys)
        make_raw(t);
    else
        wf_modes_leave_raw(t);
}

/* Who sees a prompt and answers at once must not see the answer twice, or a password at all, nor
 * see Ctrl-C taken for a key: the modes that were set before the prompt was written are set before
 * it is shown. Those that change
 * what output looks like wait until what was written before is out; but what the program's terminal
 * has made of it suits a raw one as well. */
void wf_modes_follow_early(struct wf_terminal *t) {
    struct wf_modes now;
    if (!t->foreground || ioctl(t->slave, WF_TTY_MODES, &now) < 0 || same_modes(&now, &t->modes))
        return;
    if (!(now.local & WF_LOCAL_CANONICAL) || now.output == t->modes.output)
        wf_modes_follow(t);
}

void wf_modes_find_place(struct wf_terminal *t) {
    int group = 0;
    t->foreground = ioctl(t->real, WF_TTY_GROUP, &group) == 0 && group == t->group;
}

/* From the background to the foreground, without having been stopped in between. */
void wf_modes_notice_foreground(struct wf_terminal *t) {
    if (t->foreground)
        return;
    wf_modes_find_place(t);
    if (!t->foreground)
        return;
    ioctl(t->real, WF_TTY_MODES, &t->outer);
    wf_keeper_command(t, WF_KEEPER_FOREGROUND);
    wf_modes_copy_size(t);
    wf_modes_follow(t);
}

/* In the background only what concerns programs there: whether they may write. */
static void follow_stop_output(struct wf_terminal *t, const struct wf_modes *outer) {
    struct wf_modes now;
    if (ioctl(t->slave, WF_TTY_MODES, &now) < 0 ||
        ((now.local ^ outer->local) & WF_LOCAL_STOP_OUTPUT) == 0)
        return;
    now.local ^= WF_LOCAL_STOP_OUTPUT;
    t->modes.local ^= WF_LOCAL_STOP_OUTPUT;
    ioctl(t->slave, WF_TTY_SET_MODES, &now);
}

/* The caller's terminal may have been given other modes, another size and another foreground group
 * while we were stopped. */
void wf_modes_resume(struct wf_terminal *t) {
    struct wf_modes now;
    wf_modes_find_place(t);
    wf_modes_copy_size(t);
    if (t->master < 0 || ioctl(t->real, WF_TTY_MODES, &now) < 0)
        return;
    if (!t->foreground) {
        follow_stop_output(t, &now);
        return;
    }
    if (!same_modes(&now, &t->outer) && !t->raw && ioctl(t->slave, WF_TTY_SET_MODES, &now) == 0) {
        t->modes = now;
        t->keys = false;
    }
    t->outer = now;
    if (t->keys)
        make_raw(t);
    wf_modes_follow(t);
}
