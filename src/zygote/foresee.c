/* A standby that is awake when its client connects.
 *
 * A processor that has been idle for some milliseconds is cold: its caches are empty, its clock is
 * slow, and a virtual one has to be scheduled again. A first compilation then takes 80 us instead
 * of 12. But a run announces itself: the kernel opens warmpy's file to execute it some 300 us
 * before the client connects. Where runs come often, a standby has that file watched (inotify) and
 * uses the time on another processor: it wakes up and goes through what a run needs first.
 *
 * Nothing depends on it. Without the watch (not enough runs, one processor, no inotify instance
 * left) a standby waits in accept() as always, and an event that nobody follows costs as much as
 * an empty rehearsal. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include "base/io.h"
#include "base/place.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#define OFTEN_US 2000000LL   /* two runs within so long: worth an inotify instance */
#define SELDOM_US 60000000LL /* and none for so long: not any more */
/* Where several zygotes serve in turn, each opening would wake a standby of every one of them, and
 * those that are not meant take the processor from the one that is. */
#define STREAK 2
#define RECENT_US 1000000LL /* whoever has not run for so long expects nothing of an event */

void zy_foresee_note(pid_t client) {
    char path[32];
    int expected = 0;
    long long now = wf_now_us(), last = atomic_exchange(&zy.shared->last_us, now);
    if (atomic_load(&zy.shared->served) > 1 && now - last < OFTEN_US)
        atomic_store(&zy.shared->often, true);
    if (atomic_exchange(&zy.shared->openings, 0) > 1)
        atomic_store(&zy.shared->streak, 0); /* others were meant, too */
    else
        atomic_fetch_add(&zy.shared->streak, 1);
    if (!atomic_compare_exchange_strong(&zy.shared->client_known, &expected, 1))
        return;
    wf_fmt(path, sizeof path, "/proc/%d/exe", (int)client);
    ssize_t size = readlink(path, zy.shared->client_path, sizeof zy.shared->client_path - 1);
    atomic_store(&zy.shared->client_known, size > 0 && zy.shared->client_path[0] == '/' ? 2 : 0);
}

void zy_foresee_update(void) {
    long long idle = wf_now_us() - atomic_load(&zy.shared->last_us);
    if (zy.opened >= 0 && idle > SELDOM_US) {
        wf_close(&zy.opened); /* standbys keep theirs, and expect nothing; they end when it stays
                                 quiet */
        atomic_store(&zy.shared->often, false);
    }
    if (zy.opened >= 0 || !atomic_load(&zy.shared->often) || !wf_many_cpus(zy.cpus, zy.cpus_size) ||
        atomic_load(&zy.shared->client_known) != 2)
        return;
    zy.opened = wf_move_fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC), ZY_FD_BASE);
    if (zy.opened >= 0 && inotify_add_watch(zy.opened, zy.shared->client_path, IN_OPEN) < 0)
        wf_close(&zy.opened);
}

/* What a run does first, and what it finds cold: the compiler, the streams, the modules. Leaves no
 * trace: nothing is run, nothing is kept. */
static void warm(void) {
    struct zy_compiler_flags flags = { 0, zp.minor };
    PyObject *code = zp.compile("pass", "<string>", Py_file_input, &flags, -1);
    Py_XDECREF(code);
    PyErr_Clear();
    zy_stdio_flush();
    zy_finish_look();
}

enum { CONNECTED, OPENED };

void zy_foresee_standby(void) {
    struct epoll_event event = { .events = EPOLLIN | EPOLLEXCLUSIVE };
    if (zy.opened < 0 || atomic_load(&zy.shared->streak) < STREAK)
        return;
    int both = epoll_create1(EPOLL_CLOEXEC);
    bool made = both >= 0;
    event.data.u32 = CONNECTED;
    made = made && epoll_ctl(both, EPOLL_CTL_ADD, zy.listen, &event) == 0;
    event.data.u32 = OPENED;
    made = made && epoll_ctl(both, EPOLL_CTL_ADD, zy.opened, &event) == 0;
    if (!made)
        wf_close(&both);
    zy.both = both;
}

void zy_foresee_wait(void) {
    struct epoll_event event[2];
    char events[1024];
    while (zy.both >= 0) {
        int count = epoll_wait(zy.both, event, 2, -1);
        if (count < 0 && errno != EINTR)
            return;
        for (int i = 0; i < count; i++)
            if (event[i].data.u32 == CONNECTED)
                return;
        /* Of several standbys one is told, and it is the one that a connection would be given to:
         * the first that came. */
        if (count <= 0 || read(zy.opened, events, sizeof events) <= 0)
            continue;
        if (atomic_fetch_add(&zy.shared->openings, 1) > 0)
            epoll_ctl(zy.both, EPOLL_CTL_DEL, zy.opened, NULL); /* runs go elsewhere, too */
        else if (wf_now_us() - atomic_load(&zy.shared->last_us) < RECENT_US)
            warm();
    }
}
