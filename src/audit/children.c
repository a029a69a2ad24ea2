/* Children of this process: its own children could not wait for them. */
#include "audit/probe.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct walk {
    const struct wa_sink *sink;
    bool any;
};

/* Each thread's own list; CONFIG_PROC_CHILDREN. */
static int look_at(void *arg, int tasks, long tid) {
    struct walk *w = arg;
    char path[48], text[4096], name[64];
    wf_fmt(path, sizeof path, "%ld/children", tid);
    if (wf_read_text(tasks, path, text, sizeof text) <= 0)
        return 0;
    for (char *at = text, *end;; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at)
            return 0;
        wf_fmt(path, sizeof path, "/proc/%ld/comm", pid);
        wf_read_text(AT_FDCWD, path, name, sizeof name);
        name[strcspn(name, "\n")] = '\0';
        wa_say(w->sink, WA_CHILD, pid, name, "");
        w->any = true;
    }
}

int wa_children(const struct wa_sink *sink, struct wf_err *err) {
    siginfo_t info;
    struct walk w = { .sink = sink };
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0)
        return errno == ECHILD ? 0 : wf_err_sys(err, "waitid", "all children");
    if (wa_for_each_number("/proc/self/task", look_at, &w, NULL) < 0 || !w.any)
        wa_say(sink, WA_CHILD, 0, "", "");
    return 0;
}
