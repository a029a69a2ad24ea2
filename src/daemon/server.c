/* Control connections: warmpy and warmctl on one side, the daemon on the other. A peer may send
 * nonsense, half a message or nothing: it loses its connection, and nobody else notices. */
#include "daemon/daemon.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <linux/sockios.h>
#include <unistd.h>

/* Should a send have to wait after all (see wd_send), then for a moment only: the channel gives up
 * on a blocking socket whose time is over. Receiving never blocks, whatever the socket. */
void wd_send_bound(int fd) {
    struct timeval limit = { .tv_usec = 100000 };
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* Sends without ever waiting: only while the peer has read nearly all that came before does another
 * message surely fit, as larger ones travel in a memfd. */
int wd_send(int fd, enum wf_type type, const void *payload, size_t size, const int *send_fd,
            struct wf_err *err) {
    int unread = 0;
    if (ioctl(fd, SIOCOUTQ, &unread) < 0)
        return wf_err_sys(err, "ioctl", "SIOCOUTQ");
    if (unread > 32 << 10)
        return wf_err_msg(err, "the peer does not read what it is sent");
    struct iovec iov = { (void *)payload, size };
    return wf_channel_send(fd, type, 0, &iov, 1, send_fd, send_fd ? 1 : 0, err);
}

static int send_text(int fd, enum wf_type type, unsigned code, const void *text, size_t size) {
    WF_AUTO_BUF payload;
    wf_buf_init(&payload, WF_MAX_TEXT + 64);
    struct wf_text message = { code, { text, (uint32_t)size } };
    struct wf_err err;
    if (fd < 0)
        return -1;
    if (!wf_encode_text(&payload, &message))
        return -1;
    if (wd_send(fd, type, payload.data, payload.size, NULL, &err) < 0) {
        wf_log(WF_LOG_DEBUG, "message %d not sent: %s", (int)type, err.text);
        return -1;
    }
    return 0;
}

int wd_send_text(int fd, enum wf_type type, unsigned code, const char *text) {
    return send_text(fd, type, code, text, strlen(text));
}

/* Freed by wd_server_pause, when no event of the running batch can point at it any more. */
void wd_conn_close(struct daemon *d, struct wd_conn *c) {
    wd_unwatch(d, &c->watch);
    c->dead = true;
}

void wd_conn_reply(struct daemon *d, struct wd_conn *c, unsigned code, const char *text) {
    c->wait = WD_WAIT_NONE;
    c->deadline_us = wf_now_us() + WD_MESSAGE_US;
    if (wd_send_text(c->watch.fd, WF_REPLY, code, text) < 0)
        wd_conn_close(d, c);
}

void wd_notify(struct daemon *d, unsigned zygote_id, const char *text) {
    for (int i = 0; i < WD_CONNS; i++) {
        struct wd_conn *c = d->conn[i];
        if (c && !c->dead && c->wait == WD_WAIT_WARM && c->zygote_id == zygote_id)
            wd_send_text(c->watch.fd, WF_NOTE, 0, text);
    }
}

static void reply_status(struct daemon *d, struct wd_conn *c, const struct wf_text *m) {
    WF_AUTO_BUF out;
    char name[128];
    bool found = true;
    wf_buf_init(&out, WF_MAX_TEXT - 16);
    wf_fmt(name, sizeof name, "%.*s", (int)m->text.size, (const char *)m->text.data);
    d->measured_us = 0; /* somebody looks: fresh figures */
    wd_measure(d);
    if (m->code == 1)
        wd_status_json(d, name, &out);
    else
        found = wd_status(d, name, &out);
    if (!found) {
        wd_conn_reply(d, c, 1, "no zygote of this name");
        return;
    }
    if (out.failed) {
        wd_conn_reply(d, c, 1, "the status is too long to send");
        return;
    }
    if (send_text(c->watch.fd, WF_REPLY, 0, out.data, out.size) < 0)
        wd_conn_close(d, c);
}

static void begin_stop(struct daemon *d, struct wd_conn *c, const struct wf_text *m) {
    wf_fmt(c->name, sizeof c->name, "%.*s", (int)m->text.size, (const char *)m->text.data);
    if (!c->name[0])
        d->leaving = true;
    c->stopped = wd_stop(d, c->name, "stopped by warmctl");
    c->defined = m->code != 0;
    c->wait = WD_WAIT_STOP;
    c->deadline_us = wf_now_us() + WD_MESSAGE_US;
    wf_log(WF_LOG_INFO, "warmctl stop %s: %u zygotes", c->name[0] ? c->name : "(all)", c->stopped);
}

/* NULL, or why the connection must be closed. */
static const char *handle(struct daemon *d, struct wd_conn *c, const struct wf_message *m) {
    const char *wrong;
    struct wf_request request;
    struct wf_text text;
    struct wf_started who;
    if (m->nfds != 0)
        return "descriptors where none belong";
    switch (m->header.type) {
    case WF_WARM:
        if ((wrong = wf_decode_request(m->payload, m->header.size, &request)))
            return wrong;
        if (!request.bounded)
            return "a request without bounds";
        d->warms++;
        wd_warm(d, c, &request, m->header.flags & WF_F_WAIT);
        return NULL;
    case WF_STATUS:
        if ((wrong = wf_decode_text(m->payload, m->header.size, &text)))
            return wrong;
        reply_status(d, c, &text);
        return NULL;
    case WF_STOP:
        if ((wrong = wf_decode_text(m->payload, m->header.size, &text)))
            return wrong;
        begin_stop(d, c, &text);
        return NULL;
    case WF_ASK:
        if ((wrong = wf_decode_started(m->payload, m->header.size, &who)))
            return wrong;
        wd_ask(d, c, &who);
        return NULL;
    }
    return "a type that is not for the daemon";
}

static void conn_ready(struct daemon *d, void *owner) {
    struct wd_conn *c = owner;
    struct wf_message m;
    struct wf_err err;
    for (int budget = 8; budget > 0 && !c->dead; budget--) { /* nobody keeps the loop to himself */
        int got = wf_framer_read(&c->framer, c->watch.fd, &m, &err);
        if (got == 0)
            return;
        if (got < 0) {
            if (err.code || strcmp(err.text, "end of file") != 0)
                wf_log(WF_LOG_WARN, "control connection closed: %s", err.text);
            wd_conn_close(d, c);
            return;
        }
        /* Not while waiting: the deadline then belongs to what is waited for. */
        if (c->wait == WD_WAIT_NONE)
            c->deadline_us = wf_now_us() + WD_MESSAGE_US;
        d->used_us = wf_now_us();
        const char *wrong = c->wait == WD_WAIT_NONE
                                ? handle(d, c, &m)
                                : "a second request before the first was answered";
        wf_message_done(&m);
        if (wrong) {
            wf_log(WF_LOG_WARN, "control connection closed: %s", wrong);
            wd_conn_close(d, c);
        }
    }
}

static struct wd_conn **free_place(struct daemon *d) {
    for (int i = 0; i < WD_CONNS; i++)
        if (!d->conn[i])
            return &d->conn[i];
    return NULL;
}

void wd_server_accept(struct daemon *d, void *unused) {
    (void)unused;
    struct wd_conn **place;
    while ((place = free_place(d))) {
        int fd = accept4(d->listen.fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                wf_log(WF_LOG_WARN, "accept daemon.sock: %s", strerror(errno));
            return;
        }
        struct wf_err err = { .text = "out of memory" };
        struct wd_conn *c = calloc(1, sizeof *c);
        if (!c || wf_channel_check_peer(fd, NULL, &err) < 0) {
            wf_log(WF_LOG_WARN, "connection refused: %s", err.text);
            free(c);
            close(fd);
            continue;
        }
        wd_send_bound(fd);
        c->watch.fd = -1;
        c->deadline_us = wf_now_us() + WD_MESSAGE_US;
        if (wd_watch(d, &c->watch, fd, conn_ready, c, &err) < 0) {
            wf_log(WF_LOG_WARN, "connection refused: %s", err.text);
            free(c);
            continue;
        }
        wf_framer_init(&c->framer);
        *place = c;
        conn_ready(d, c); /* clients send at once: usually it is all there */
    }
}

/* Frees closed connections, and lets new ones wait in the queue while there is no room for them. */
void wd_server_pause(struct daemon *d) {
    bool room = false;
    for (int i = 0; i < WD_CONNS; i++) {
        struct wd_conn *c = d->conn[i];
        if (c && c->dead) {
            wf_framer_done(&c->framer);
            free(c);
            d->conn[i] = NULL;
        }
        room |= !d->conn[i];
    }
    if (d->listen.fd < 0 || room == d->accepting)
        return;
    struct epoll_event event = { .events = room ? EPOLLIN : 0, .data.ptr = &d->listen };
    epoll_ctl(d->epoll_fd, EPOLL_CTL_MOD, d->listen.fd, &event);
    d->accepting = room;
}
