/* What zygotes say: messages on their control channel, python's stderr, and their end. */
#include "daemon/daemon.h"

#include "base/io.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int wd_control_watch(struct daemon *d, struct wd_zygote *z, int fd, struct wf_err *err) {
    wd_send_bound(fd);
    return wd_watch(d, &z->control, fd, wd_control_ready, z, err);
}

int wd_pid_watch(struct daemon *d, struct wd_zygote *z, struct wf_err *err) {
    int fd = (int)syscall(SYS_pidfd_open, z->pid, 0);
    if (fd < 0)
        return wf_err_sys(err, "pidfd_open", "zygote");
    return wd_watch(d, &z->exit, fd, wd_exit_ready, z, err);
}

void wd_exit_ready(struct daemon *d, void *owner) {
    struct wd_zygote *z = owner;
    wd_reap(d); /* a child's status, with its event */
    if (z->exit.fd >= 0 && z->state < ZS_FAILED)
        wd_zygote_event(
            d, z, ZE_EXIT); /* not our child: adopted, or another process of the user's reaps it */
    wd_unwatch(d, &z->exit);
}

static char *copy_span(const struct wf_span *s, char separator) {
    char *text = malloc((size_t)s->size + 1);
    if (!text)
        return NULL;
    for (uint32_t i = 0; i < s->size; i++)
        text[i] = s->data[i] ? (char)s->data[i] : separator;
    size_t size = s->size;
    if (size > 0 && !s->data[size - 1])
        size--; /* the last string's terminator */
    text[size] = '\0';
    return text;
}

static void set_text(char **field, const struct wf_span *s) {
    free(*field);
    *field = copy_span(s, ' ');
}

static const char *take_ready(struct daemon *d, struct wd_zygote *z, const struct wf_ready *m) {
    if (memcmp(m->key, z->key, WF_KEY_SIZE) != 0 || m->variant != z->variant)
        return "it serves another key than it was made for";
    if (m->pid <= 1 || (z->child && (pid_t)m->pid != z->pid))
        return "it gives another process than itself";
    z->pid = (pid_t)m->pid;
    set_text(&z->name, &m->name);
    set_text(&z->python, &m->python);
    set_text(&z->options, &m->options);
    set_text(&z->preload, &m->preload);
    set_text(&z->init, &m->init);
    set_text(&z->directory, &m->directory);
    z->asked = m->asked;
    set_text(&z->version, &m->version);
    /* Only bases have neither; for an adopted zygote the base's key is not known, nor needed any
     * more. */
    if (z->state == ZS_ADOPTING && m->name.size + m->preload.size == 0)
        memcpy(z->base_key, z->key, WF_KEY_SIZE);
    wd_zygote_event(d, z, ZE_READY);
    return NULL;
}

void wd_zygote_note(struct wd_zygote *z, const char *text, size_t size) {
    if (size > 400)
        size = 400;
    for (unsigned i = 0; i < z->note_count; i++)
        if (strlen(z->notes[i]) == size && memcmp(z->notes[i], text, size) == 0)
            return;
    if (z->note_count == WD_NOTES) {
        free(z->notes[0]);
        memmove(z->notes, z->notes + 1, (WD_NOTES - 1) * sizeof *z->notes);
        z->note_count--;
    }
    char *copy = strndup(text, size);
    if (copy)
        z->notes[z->note_count++] = copy;
}

static const char *take_text(struct daemon *d, struct wd_zygote *z, enum wf_type type,
                             const struct wf_text *m) {
    char label[160], text[400];
    wd_zygote_label(z, label, sizeof label);
    wf_fmt(text, sizeof text, "%.*s", (int)(m->text.size < 390 ? m->text.size : 390),
           (const char *)m->text.data);
    switch (type) {
    case WF_NOTE:
        wf_log(WF_LOG_INFO, "%s: %s", label, text);
        wd_zygote_note(z, text, strlen(text));
        wd_notify(d, z->id, text);
        return NULL;
    case WF_FAILED:
        wf_fmt(z->why, sizeof z->why, "%s", text);
        z->code = m->code;
        wd_zygote_event(d, z, ZE_FAILED);
        return NULL;
    case WF_GONE:
        if (z->state != ZS_RETIRING) /* else the reason is ours */
            wf_fmt(z->why, sizeof z->why, "%s", text);
        z->code = m->code;
        wd_zygote_event(d, z, ZE_GONE);
        return NULL;
    default:
        return "a type that zygotes do not send";
    }
}

static const char *take_stats(struct wd_zygote *z, const struct wf_stats *m) {
    if (m->served != z->stats.served || m->running > 0) {
        long long now = wf_now_us();
        z->used_us = m->running > 0 || (long long)m->last_us > now ? now : (long long)m->last_us;
        if (z->used_us < z->ready_us)
            z->used_us = z->ready_us;
    }
    z->stats = *m;
    z->has_stats = true;
    return NULL;
}

static const char *take(struct daemon *d, struct wd_zygote *z, const struct wf_message *m) {
    const char *wrong;
    struct wf_ready ready;
    struct wf_text text;
    struct wf_stats stats;
    struct wf_started started;
    if (m->nfds != 0)
        return "descriptors where none belong";
    switch (m->header.type) {
    case WF_READY:
        wrong = wf_decode_ready(m->payload, m->header.size, &ready);
        return wrong ? wrong : take_ready(d, z, &ready);
    case WF_STARTED: /* a candidate says which process imports */
        wrong = wf_decode_started(m->payload, m->header.size, &started);
        if (!wrong && z->state == ZS_WARMING && !z->child)
            z->pid = (pid_t)started.pid;
        return wrong;
    case WF_STATS:
        wrong = wf_decode_stats(m->payload, m->header.size, &stats);
        return wrong ? wrong : take_stats(z, &stats);
    case WF_ANSWER:
        return NULL;
    default:
        wrong = wf_decode_text(m->payload, m->header.size, &text);
        return wrong ? wrong : take_text(d, z, m->header.type, &text);
    }
}

/* Reads what is there. A zygote that lies about the protocol is treated as one that hung up: its
 * name goes, and what runs in it finishes. */
void wd_control_read(struct daemon *d, struct wd_zygote *z) {
    struct wf_message m;
    struct wf_err err;
    for (int budget = 64; budget > 0 && z->control.fd >= 0; budget--) {
        int got = wf_framer_read(&z->framer, z->control.fd, &m, &err);
        if (got == 0)
            return;
        const char *wrong = got < 0 ? err.text : take(d, z, &m);
        if (got > 0)
            wf_message_done(&m);
        if (!wrong)
            continue;
        if (got > 0 || err.code || strcmp(err.text, "end of file") != 0)
            wf_log(WF_LOG_WARN, "zygote %d: control channel: %s", (int)z->pid, wrong);
        wd_zygote_event(d, z, ZE_EOF);
        wd_unwatch(d, &z->control); /* whatever the state made of it */
        return;
    }
}

void wd_control_ready(struct daemon *d, void *owner) { wd_control_read(d, owner); }

static void end_line(struct wd_zygote *z) {
    if (z->line_size == 0)
        return;
    wf_log(WF_LOG_INFO, "python[%d]: %.*s", (int)z->pid, (int)z->line_size, z->line);
    wf_fmt(z->last_line, sizeof z->last_line, "%.*s", (int)z->line_size, z->line);
    z->line_size = 0;
}

/* Line by line, long ones in pieces; a traceback's last line says what went wrong. */
void wd_errors_read(struct daemon *d, struct wd_zygote *z) {
    char block[4096];
    for (int budget = 16; budget > 0 && z->errors.fd >= 0; budget--) {
        ssize_t size = read(z->errors.fd, block, sizeof block);
        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        for (ssize_t i = 0; i < size; i++) {
            if (block[i] == '\n' || z->line_size == sizeof z->line)
                end_line(z);
            if (block[i] != '\n')
                z->line[z->line_size++] = block[i];
        }
        if (size <= 0) {
            end_line(z);
            wd_unwatch(d, &z->errors);
        }
    }
}

void wd_errors_ready(struct daemon *d, void *owner) { wd_errors_read(d, owner); }
