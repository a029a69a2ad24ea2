/* `warmctl status --json`: one object, one line. */
#include "daemon/daemon.h"

#include "base/hash.h"
#include "base/io.h"
#include <string.h>
#include <unistd.h>

/* The length of the UTF-8 sequence at `s`, 0 when it is none (overlong forms and surrogates are
 * none). */
static unsigned sequence(const unsigned char *s) {
    unsigned more = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 1 : s[0] < 0xf0 ? 2 : s[0] < 0xf5 ? 3 : 0;
    for (unsigned i = 1; i <= more; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return more ? more + 1 : 0;
}

/* Bytes that are no text become lone surrogates, which Python's os.fsencode turns back into the
 * bytes. */
static void add_string(struct wf_buf *out, const char *text) {
    wf_buf_add(out, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)wd_text(text); *s;) {
        unsigned size = *s < 0x80 ? 1 : sequence(s);
        if (size == 0)
            wf_buf_addf(out, "\\udc%02x", *s);
        else if (*s == '"' || *s == '\\')
            wf_buf_addf(out, "\\%c", *s);
        else if (*s < ' ' || *s == 127)
            wf_buf_addf(out, "\\u00%02x", *s);
        else
            wf_buf_add(out, s, size);
        s += size ? size : 1;
    }
    wf_buf_add(out, "\"", 1);
}

static void add_field(struct wf_buf *out, const char *name, const char *text) {
    wf_buf_addf(out, "\"%s\": ", name);
    add_string(out, text);
    wf_buf_add(out, ", ", 2);
}

static void add_number(struct wf_buf *out, const char *name, long long value) {
    wf_buf_addf(out, "\"%s\": %lld, ", name, value);
}

static void add_seconds(struct wf_buf *out, const char *name, long long us) {
    if (us < 0)
        us = 0;
    wf_buf_addf(out, "\"%s\": %lld.%03lld, ", name, us / WD_SECOND, us % WD_SECOND / 1000);
}

static void add_zygote(struct wf_buf *out, const struct wd_zygote *z, long long now) {
    char key[33];
    wf_hash_hex(z->key, key);
    wf_buf_add(out, "{", 1);
    add_field(out, "key", key);
    add_number(out, "variant", z->variant);
    add_field(out, "name", z->name);
    add_field(out, "python", z->python);
    add_field(out, "version", z->version);
    add_field(out, "options", z->options);
    add_field(out, "preload", z->preload);
    add_field(out, "init", z->init);
    add_field(out, "directory", z->asked == WF_ASKED_DIRECTORY ? z->directory : "");
    add_field(out, "state", wd_state_name(z->state));
    add_field(out, "why", z->state == ZS_READY ? "" : z->why);
    add_number(out, "pid", z->pid);
    add_number(out, "failures", z->failures);
    add_seconds(out, "retry_in", z->state == ZS_FAILED ? z->retry_us - now : 0);
    wf_buf_addf(out, "\"notes\": [");
    for (unsigned i = 0; i < z->note_count; i++) {
        if (i > 0)
            wf_buf_add(out, ", ", 2);
        add_string(out, z->notes[i]);
    }
    wf_buf_addf(out, "], ");
    add_number(out, "standby", z->stats.standby);
    add_number(out, "running", z->stats.running);
    add_number(out, "served", (long long)z->stats.served);
    add_number(out, "refused", (long long)z->stats.refused);
    add_number(out, "pss_kb", (long long)z->pss_kb);
    add_number(out, "rss_kb", (long long)z->rss_kb);
    add_seconds(out, "idle", now - z->used_us);
    add_seconds(out, "age", now - z->created_us);
    out->size -= out->failed ? 0 : 2; /* the last comma */
    wf_buf_add(out, "}", 1);
}

void wd_status_json(struct daemon *d, const char *name, struct wf_buf *out) {
    long long now = wf_now_us();
    bool first = true;
    wf_buf_addf(out, "{\"daemon\": {");
    add_number(out, "pid", getpid());
    add_field(out, "version", WF_VERSION);
    add_seconds(out, "uptime", now - d->started_us);
    add_field(out, "rundir", d->rundir);
    add_field(out, "libdir", d->libdir);
    add_number(out, "warm_requests", (long long)d->warms);
    add_number(out, "warm_refused", (long long)d->refused);
    add_field(out, "last_refusal", d->last_refusal);
    add_seconds(out, "idle_limit", d->options.idle_us);
    add_number(out, "memory_limit_kb", (long long)d->memory_max_kb);
    out->size -= out->failed ? 0 : 2;
    wf_buf_addf(out, "}, \"zygotes\": [");
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next) {
        if (z->state == ZS_DEAD || (name[0] && strcmp(wd_text(z->name), name) != 0))
            continue;
        if (!first)
            wf_buf_add(out, ", ", 2);
        first = false;
        add_zygote(out, z, now);
    }
    wf_buf_addf(out, "]}\n");
}
