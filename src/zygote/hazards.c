/* Policy: which of the auditor's facts (src/audit) make a process unfit to be a zygote. What a fork
 * would lose, and what programs that know nothing of each other would share. */
#include "zygote/zygote.h"

#include "audit/audit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct hazards {
    unsigned tasks;
    char task_names[120];
    char other[240]; /* the first one; "" when there is none */
};

/* Ours are the streams, what lies above ZY_FD_BASE, and the page shared with workers. */
static bool is_own(const struct wa_fact *f) {
    if (f->kind == WA_SHARED)
        return f->from == (uintptr_t)zy.shared;
    return f->id < 3 || f->id >= ZY_FD_BASE;
}

static void judge(void *arg, const struct wa_fact *f) {
    struct hazards *h = arg;
    size_t used = strlen(h->task_names), room = sizeof h->other;
    if (f->kind == WA_TASK) {
        h->tasks++;
        wf_fmt(h->task_names + used, sizeof h->task_names - used, " %s", f->name);
        return;
    }
    if (h->other[0])
        return;
    switch (f->kind) {
    case WA_UNSEEN:
        wf_fmt(h->other, room, "cannot be seen to be safe: %s: %s", f->name, f->detail);
        break;
    case WA_ITIMER:
    case WA_POSIX_TIMER:
        wf_fmt(h->other, room, "set a timer");
        break;
    case WA_CHILD:
        wf_fmt(h->other, room, "left a child process");
        break;
    case WA_SHARED:
        if (!is_own(f))
            wf_fmt(h->other, room, "left memory shared with all programs: %.100s, %llu bytes",
                   *f->name ? f->name : "anonymous", (unsigned long long)f->size);
        break;
    default: /* a descriptor: position and all would be shared */
        if (!is_own(f))
            wf_fmt(h->other, room, "left a descriptor open: %.160s%s%s", f->name,
                   *f->detail ? " " : "", f->detail);
    }
}

/* Threads that end at a fork (OpenBLAS has handlers that do so) are no hazard: a fork that does
 * nothing tells. */
static void settle(void) {
    pid_t pid = 0;
    enum zy_forked forked = zy_fork(&pid, NULL);
    if (forked == ZY_CHILD)
        _exit(0);
    if (forked == ZY_PARENT)
        waitpid(pid, NULL, 0);
}

bool zy_hazards(char *reason, size_t size) {
    struct hazards h = { 0 };
    wa_probe(WA_PROBE_TASKS, judge, &h);
    if (h.tasks > 0) {
        settle();
        h = (struct hazards){ 0 };
        wa_probe(WA_PROBE_TASKS, judge, &h);
    }
    if (h.tasks == 0)
        wa_probe(WA_PROBE_TIMERS | WA_PROBE_CHILDREN | WA_PROBE_DESCRIPTORS | WA_PROBE_MAPPINGS,
                 judge, &h);
    if (h.tasks > 0)
        wf_fmt(reason, size, "left %u thread(s) running, which a fork would lose:%s", h.tasks,
               h.task_names);
    else if (h.other[0])
        wf_fmt(reason, size, "%s", h.other);
    return h.tasks > 0 || h.other[0];
}
