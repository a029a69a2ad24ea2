/* The .ctl socket: clients whose worker ended without a word ask how, and a new daemon takes over
 * the zygotes of the one before. */
#include "zygote/zygote.h"

#include "base/io.h"
#include "channel/channel.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ASKS 64
#define CTLS (sizeof zy.ctl / sizeof *zy.ctl)

static struct {
    int fd; /* index into zy.ctl; -1: free */
    struct wf_started who;
} asks[ASKS];

static void send_answer(int fd, const struct zy_ended *e) {
    uint8_t small[32];
    struct wf_buf out;
    wf_buf_init_fixed(&out, small, sizeof small);
    struct wf_exited m = { .kind = WF_END_UNKNOWN };
    if (e != NULL && WIFEXITED(e->status))
        m = (struct wf_exited){ WF_END_EXIT, (uint32_t)WEXITSTATUS(e->status), 0 };
    else if (e != NULL && WIFSIGNALED(e->status))
        m = (struct wf_exited){ WF_END_SIGNAL, (uint32_t)WTERMSIG(e->status),
                                WCOREDUMP(e->status) != 0 };
    wf_encode_exited(&out, &m);
    zy_send(fd, WF_ANSWER, &out);
}

static bool is_of(const struct zy_ended *e, const struct wf_started *who) {
    return e->pid == (pid_t)who->pid && e->cookie == who->cookie;
}

void zy_answer(const struct zy_ended *e) {
    for (unsigned i = 0; i < ASKS; i++) {
        if (asks[i].fd >= 0 && is_of(e, &asks[i].who)) {
            send_answer(zy.ctl[asks[i].fd], e);
            asks[i].fd = -1;
        }
    }
}

/* Known already: answered. Still alive: answered when reaped. Never ours: unknown. */
static void handle_ask(int ctl, const struct wf_message *m) {
    struct wf_started who;
    if (wf_decode_started(m->payload, m->header.size, &who) != NULL)
        return;
    zy_reap();
    for (unsigned i = 0; i < ZY_ENDED; i++) {
        if (zy.ended[i].pid != 0 && is_of(&zy.ended[i], &who)) {
            send_answer(zy.ctl[ctl], &zy.ended[i]);
            return;
        }
    }
    bool alive = false;
    for (unsigned i = 0; i < ZY_SLOTS && !alive; i++)
        alive = zy.worker[i].pid == (pid_t)who.pid;
    for (unsigned i = 0; i < ASKS && alive; i++) {
        if (asks[i].fd < 0) {
            asks[i].fd = ctl;
            asks[i].who = who;
            return;
        }
    }
    send_answer(zy.ctl[ctl], NULL);
}

static void drop_ctl(int i) {
    for (unsigned k = 0; k < ASKS; k++)
        if (asks[k].fd == i)
            asks[k].fd = -1;
    wf_close(&zy.ctl[i]);
}

void zy_asks_accept(void) {
    int fd = accept4(zy.ctl_listen, NULL, NULL, SOCK_CLOEXEC);
    unsigned i = 0;
    while (i < CTLS && zy.ctl[i] >= 0)
        i++;
    if (fd >= 0 && (i == CTLS || wf_channel_check_peer(fd, NULL, NULL) < 0))
        wf_close(&fd);
    if (fd >= 0)
        zy.ctl[i] = wf_move_fd(fd, ZY_FD_BASE);
}

/* Messages here are small and sent whole; a peer that dawdles for 100 ms is dropped. */
void zy_asks_serve(int i) {
    uint8_t storage[256];
    static struct wf_message m;
    if (wf_channel_receive(zy.ctl[i], &m, storage, sizeof storage, 100, NULL) <= 0) {
        drop_ctl(i);
        return;
    }
    if (m.header.type == WF_ASK && m.nfds == 0) {
        handle_ask(i, &m);
    } else if (m.header.type == WF_ADOPT && zy.serving) {
        wf_close(&zy.control);
        zy.control = zy.ctl[i];
        zy.ctl[i] = -1;
        zy_tell_ready();
        zy.stats_due = true;
    } else {
        drop_ctl(i);
    }
    wf_message_done(&m);
}

void zy_asks_forget(void) {
    for (unsigned i = 0; i < ASKS; i++)
        asks[i].fd = -1;
}
