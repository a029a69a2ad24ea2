/* Children. The daemon is a child subreaper: the zygotes are its children, and when one is killed
 * its running workers become so. Their wait statuses are kept for the clients that will ask. */
#include "daemon/daemon.h"

#include "base/io.h"
#include "base/log.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

uint64_t wd_process_cookie(pid_t pid) {
    char path[48], text[1024];
    wf_fmt(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    char *at = strrchr(text, ')'); /* the name before it may hold anything */
    for (int field = 2; at && field < 22; field++)
        if ((at = strchr(at, ' ')))
            at++;
    return at ? strtoull(at, NULL, 10) : 0;
}

void wd_status_text(int status, char *out, size_t size) {
    if (status == -1)
        wf_fmt(out, size, "ended");
    else if (WIFSIGNALED(status))
        wf_fmt(out, size, "was killed by signal %d (%s)", WTERMSIG(status),
               strsignal(WTERMSIG(status)));
    else
        wf_fmt(out, size, "exited with status %d", WEXITSTATUS(status));
}

static void keep(struct daemon *d, pid_t pid, uint64_t cookie, int status) {
    d->ended[d->ended_next] = (struct wd_ended){ pid, cookie, status };
    d->ended_next = (d->ended_next + 1) % WD_ENDED;
}

/* Looks before it reaps: the start time, which tells this process from a later one of the same pid,
 * is gone with it. */
void wd_reap(struct daemon *d) {
    for (;;) {
        siginfo_t info = { 0 };
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return;
        uint64_t cookie = wd_process_cookie(info.si_pid);
        int status;
        if (waitpid(info.si_pid, &status, WNOHANG) <= 0)
            return;
        keep(d, info.si_pid, cookie, status);
        for (struct wd_zygote *z = d->zygotes; z; z = z->next) {
            if (z->pid != info.si_pid || z->state >= ZS_FAILED)
                continue;
            z->status = status;
            wd_zygote_event(d, z, ZE_EXIT);
        }
    }
}

/* For a worker that asks by its own pid and start time. */
bool wd_reap_find(const struct daemon *d, const struct wf_started *who, int *ret_status) {
    for (unsigned i = 0; i < WD_ENDED; i++)
        if (d->ended[i].pid == (pid_t)who->pid && d->ended[i].cookie == who->cookie && who->pid) {
            *ret_status = d->ended[i].status;
            return true;
        }
    return false;
}

static void answer(struct daemon *d, struct wd_conn *c, bool known, int status) {
    struct wf_exited m = { .kind = WF_END_UNKNOWN };
    if (known && WIFSIGNALED(status))
        m = (struct wf_exited){ WF_END_SIGNAL, (uint32_t)WTERMSIG(status),
                                WCOREDUMP(status) ? 1 : 0 };
    else if (known)
        m = (struct wf_exited){ WF_END_EXIT, (uint32_t)WEXITSTATUS(status), 0 };
    uint8_t storage[64];
    struct wf_buf out;
    wf_buf_init_fixed(&out, storage, sizeof storage);
    c->wait = WD_WAIT_NONE;
    c->deadline_us = wf_now_us() + WD_MESSAGE_US;
    if (!wf_encode_exited(&out, &m) ||
        wd_send(c->watch.fd, WF_ANSWER, out.data, out.size, NULL, NULL) < 0)
        wd_conn_close(d, c);
}

/* A client whose worker died with its zygote may ask before the kernel has made the worker our
 * child: its sockets close before it is handed over. So a dead worker that is still there is waited
 * for, by the loop, for a moment. */
void wd_ask(struct daemon *d, struct wd_conn *c, const struct wf_started *who) {
    wd_reap(d);
    c->ask = *who;
    c->wait = WD_WAIT_ASK;
    c->deadline_us = wf_now_us() + WD_ASK_US;
}

bool wd_ask_settle(struct daemon *d, struct wd_conn *c, long long now) {
    int status = 0;
    bool known = wd_reap_find(d, &c->ask, &status);
    if (!known && now < c->deadline_us && wd_process_cookie((pid_t)c->ask.pid) == c->ask.cookie)
        return false;
    /* It may have been reaped between the two looks. */
    if (!known) {
        wd_reap(d);
        known = wd_reap_find(d, &c->ask, &status);
    }
    answer(d, c, known, status);
    return true;
}
