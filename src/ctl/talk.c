/* Talking to the daemon: one request, one answer. */
#include "ctl/ctl.h"

#include "base/cleanup.h"
#include "channel/channel.h"
#include "client/python.h"
#include "client/start.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MESSAGE_MS 10000
#define PROBE_S 10
#define READY_S 1200 /* more than the daemon itself grants a zygote and its base */

int wc_rundir(char ret_path[WF_RUNDIR_MAX + 1], struct wf_err *err) {
    return wf_rundir_path(wf_env_lookup, environ, ret_path, err);
}

int wc_connect(const char *rundir, int *ret_fd, struct wf_err *err) {
    WF_AUTO_FD dir = -1;
    if (wf_rundir_open(rundir, false, &dir, err) < 0)
        return err->code == ENOENT ? 0 : -1;
    if (wf_start_connect(rundir, ret_fd, err) == 0)
        return 1;
    return err->code == ENOENT || err->code == ECONNREFUSED ? 0 : -1;
}

static int send_text(int fd, enum wf_type type, unsigned code, const char *text,
                     struct wf_err *err) {
    WF_AUTO_BUF out;
    wf_buf_init(&out, WF_MAX_TEXT);
    struct wf_text m = { code, { (const uint8_t *)text, (uint32_t)strlen(text) } };
    if (!wf_encode_text(&out, &m))
        return wf_err_msg(err, "the name is too long");
    struct iovec iov = { out.data, out.size };
    return wf_channel_send(fd, type, 0, &iov, 1, NULL, 0, err);
}

/* A reply (1), a note (0), or nonsense (-1). */
static int take(struct wf_message *m, unsigned *ret_code, char **ret_text, struct wf_err *err) {
    struct wf_text text;
    const char *wrong = wf_decode_text(m->payload, m->header.size, &text);
    if (!wrong && m->header.type != WF_REPLY && m->header.type != WF_NOTE)
        wrong = "an unexpected message";
    if (wrong)
        return wf_err_msg(err, "the daemon's answer: %s", wrong);
    if (!(*ret_text = strndup((const char *)text.text.data, text.text.size)))
        return wf_err_sys(err, "malloc", "answer");
    *ret_code = text.code;
    return m->header.type == WF_REPLY;
}

/* A daemon that makes a zygote says nothing for minutes, but answers others meanwhile. */
static int probe(struct wf_err *err) {
    char rundir[WF_RUNDIR_MAX + 1], *text;
    unsigned code;
    WF_AUTO_FD fd = -1;
    if (wc_rundir(rundir, err) < 0 || wf_start_connect(rundir, &fd, err) < 0 ||
        send_text(fd, WF_STATUS, 1, "", err) < 0 || wc_await(fd, NULL, &code, &text, err) < 0)
        return -1;
    free(text);
    return 0;
}

int wc_await(int fd, void (*progress)(const char *text), unsigned *ret_code, char **ret_text,
             struct wf_err *err) {
    for (int seconds = 0; seconds < READY_S;) {
        struct pollfd item = { .fd = fd, .events = POLLIN };
        int ready = poll(&item, 1, progress ? 1000 : MESSAGE_MS);
        if (ready < 0 && errno != EINTR)
            return wf_err_sys(err, "poll", "daemon.sock");
        if (ready == 0 && !progress)
            return wf_err_msg(err, "the daemon does not answer");
        if (ready <= 0) {
            seconds += ready == 0;
            if (progress)
                progress(NULL);
            if (ready == 0 && seconds % PROBE_S == 0 && probe(err) < 0)
                return -1;
            continue;
        }
        struct wf_message m;
        unsigned code = 0;
        char *text = NULL;
        int got = wf_channel_receive(fd, &m, NULL, 0, MESSAGE_MS, err);
        if (got <= 0)
            return got < 0 ? -1
                           : wf_err_msg(err, "the daemon closed the connection without an answer");
        int kind = take(&m, &code, &text, err);
        wf_message_done(&m);
        if (kind < 0)
            return -1;
        if (kind > 0) {
            *ret_code = code;
            *ret_text = text;
            return 0;
        }
        if (progress)
            progress(text);
        free(text);
    }
    return wf_err_msg(err, "the daemon does not answer");
}

int wc_talk(int fd, enum wf_type type, unsigned code, const char *text, bool quiet) {
    struct wf_err err;
    unsigned result;
    char *answer;
    if (send_text(fd, type, code, text, &err) < 0 || wc_await(fd, NULL, &result, &answer, &err) < 0)
        return wc_fail(err.text);
    int status = WC_OK;
    if (result != 0) {
        status = quiet ? WC_FAILED : wc_fail(answer);
    } else {
        size_t size = strlen(answer);
        fputs(answer, stdout);
        if (size > 0 && answer[size - 1] != '\n')
            putchar('\n');
    }
    free(answer);
    return status;
}
