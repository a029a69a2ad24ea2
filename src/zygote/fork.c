/* Forking: with Python's own hooks around it, standbys ahead of demand, and the record of how
 * workers ended. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include "base/io.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum zy_forked zy_fork(pid_t *ret_pid, struct wf_err *err) {
    PyOS_BeforeFork();
    pid_t pid = fork();
    if (pid == 0) {
        PyOS_AfterFork_Child();
        return ZY_CHILD;
    }
    int code = errno;
    PyOS_AfterFork_Parent();
    if (pid < 0) {
        errno = code;
        wf_err_sys(err, "fork", "a worker");
        return ZY_FORK_FAILED;
    }
    *ret_pid = pid;
    return ZY_PARENT;
}

unsigned zy_count(enum zy_state state) {
    unsigned n = 0;
    for (unsigned i = 0; i < zy.slots_used; i++)
        n += zy.worker[i].pid != 0 && atomic_load(&zy.shared->state[i]) == (int)state;
    return n;
}

static int free_slot(void) {
    for (int i = 0; i < ZY_SLOTS; i++)
        if (zy.worker[i].pid == 0)
            return i;
    return -1;
}

/* Nobody will serve who waits in the backlog: end of file tells them to run cold, now rather than
 * after a time-out. */
static void turn_away(void) {
    struct pollfd p = { .fd = zy.listen, .events = POLLIN };
    while (poll(&p, 1, 0) > 0) {
        int fd = accept4(zy.listen, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return;
        close(fd);
    }
}

/* Standbys that are not ready yet make ready at idle priority; somebody waits for them now. */
static void hurry(void) {
    struct sched_param param = { 0 };
    for (unsigned i = 0; i < zy.slots_used; i++)
        if (zy.worker[i].pid != 0 && atomic_load(&zy.shared->state[i]) == ZY_PREPARING)
            sched_setscheduler(zy.worker[i].pid, SCHED_OTHER, &param);
}

bool zy_refill(bool urgent) {
    unsigned have = zy_count(ZY_WAITING) + zy_count(ZY_PREPARING);
    if (urgent)
        hurry();
    zy_foresee_update();
    if (zy.pages == ZY_PAGES_LEARNING && !urgent)
        return false; /* the first standbys profit as well, a few ms later */
    while (zy.serving && have < zy.target) {
        struct wf_err err;
        pid_t pid = 0;
        int slot = free_slot();
        if (slot < 0)
            return false;
        bool learns = zy.pages == ZY_PAGES_UNKNOWN;
        atomic_store(&zy.shared->state[slot], learns ? ZY_TAKEN : ZY_PREPARING);
        switch (zy_fork(&pid, &err)) {
        case ZY_CHILD:
            zy.slot = (unsigned)slot;
            zy.learning = learns;
            zy.hurried = urgent && have == 0;
            return true;
        case ZY_PARENT:
            zy.worker[slot].pid = pid;
            if (zy.slots_used <= (unsigned)slot)
                zy.slots_used = (unsigned)slot + 1;
            if (learns) {
                zy.pages = ZY_PAGES_LEARNING;
                zy.learner = pid;
                return false;
            }
            have++;
            break;
        case ZY_FORK_FAILED:
            if (!zy.fork_failing)
                zy_tell(WF_NOTE, 1, err.text);
            zy.fork_failing = true;
            zy.fork_failures++;
            if (have == 0)
                turn_away();
            return false;
        }
        zy.fork_failing = false;
        zy.fork_failures = 0;
    }
    return false;
}

/* A standby that dies before it is taken is our fault: after a few in a row this zygote must not go
 * on. */
static void count_early_death(int state, int status) {
    bool killed_by_us = state == ZY_FREE;
    if (killed_by_us || state == ZY_TAKEN) {
        zy.early_deaths = 0;
        return;
    }
    char text[120];
    wf_fmt(text, sizeof text, "a standby died (%s %d) while %s",
           WIFSIGNALED(status) ? "signal" : "status",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
           state == ZY_PREPARING ? "making ready" : "waiting");
    zy_tell(WF_NOTE, 1, text);
    if (++zy.early_deaths >= 5)
        zy_stop_serving("its standbys keep dying");
}

void zy_reap(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
        unsigned i = 0;
        while (i < zy.slots_used && zy.worker[i].pid != pid)
            i++;
        if (i == zy.slots_used)
            continue; /* a candidate */
        if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
            zy_stops_tell(i, status);
            continue;
        }
        int state = atomic_load(&zy.shared->state[i]);
        struct zy_ended *e = &zy.ended[zy.ended_next++ % ZY_ENDED];
        *e = (struct zy_ended){ pid, atomic_load(&zy.shared->cookie[i]), status };
        zy.worker[i].pid = 0;
        if (pid == zy.learner)
            zy.pages = ZY_PAGES_KNOWN;
        atomic_store(&zy.shared->client[i], 0);
        atomic_store(&zy.shared->state[i], ZY_FREE);
        count_early_death(state, status);
        zy_answer(e);
    }
    atomic_store(&zy.shared->waiting, (int)zy_count(ZY_WAITING));
}
