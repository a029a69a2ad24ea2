/* `warmctl status`, as a table for people. */
#include "daemon/daemon.h"

#include "base/io.h"
#include <string.h>
#include <unistd.h>

enum { COLUMNS = 9 };

struct row {
    char cell[COLUMNS][164];
};

static const char *const titles[COLUMNS] = {
    "ZYGOTE", "STATE", "PID", "STANDBY", "RUNNING", "SERVED", "REFUSED", "MEMORY", "IDLE",
};

static void duration(long long us, char *out, size_t size) {
    long long s = us > 0 ? us / WD_SECOND : 0;
    if (s < 120)
        wf_fmt(out, size, "%lld s", s);
    else if (s < 7200)
        wf_fmt(out, size, "%lld min", s / 60);
    else if (s < 2 * 86400)
        wf_fmt(out, size, "%lld h", s / 3600);
    else
        wf_fmt(out, size, "%lld days", s / 86400);
}

static void memory(unsigned long kb, char *out, size_t size) {
    wf_fmt(out, size, "%lu.%lu MB", kb / 1024, kb % 1024 * 10 / 1024);
}

static void number(unsigned long long value, char *out, size_t size) {
    wf_fmt(out, size, "%llu", value);
}

static void fill_row(const struct wd_zygote *z, long long now, struct row *row) {
    memset(row, 0, sizeof *row);
    wd_zygote_label(z, row->cell[0], sizeof row->cell[0]);
    wf_fmt(row->cell[1], sizeof row->cell[1], "%s", wd_state_name(z->state));
    if (z->pid > 0)
        number((unsigned long long)z->pid, row->cell[2], sizeof row->cell[2]);
    if (z->state != ZS_READY && z->state != ZS_RETIRING)
        return;
    number(z->stats.standby, row->cell[3], sizeof row->cell[3]);
    number(z->stats.running, row->cell[4], sizeof row->cell[4]);
    number(z->stats.served, row->cell[5], sizeof row->cell[5]);
    number(z->stats.refused, row->cell[6], sizeof row->cell[6]);
    memory(z->pss_kb, row->cell[7], sizeof row->cell[7]);
    duration(now - z->used_us, row->cell[8], sizeof row->cell[8]);
}

static void add_padded(struct wf_buf *out, const char *text, size_t width, bool right) {
    size_t size = strlen(text);
    if (!right)
        wf_buf_add(out, text, size);
    for (; size < width; width--)
        wf_buf_add(out, " ", 1);
    if (right)
        wf_buf_add(out, text, size);
}

static void add_row(struct wf_buf *out, const char *cells[COLUMNS], const size_t width[COLUMNS]) {
    for (int i = 0; i < COLUMNS; i++) {
        if (i > 0)
            wf_buf_add(out, "  ", 2);
        add_padded(out, cells[i], width[i], i >= 2);
    }
    while (out->size > 0 && out->data[out->size - 1] == ' ')
        out->size--;
    wf_buf_add(out, "\n", 1);
}

static void add_detail(struct wf_buf *out, const char *what, const char *text) {
    if (text && *text)
        wf_buf_addf(out, "    %s: %s\n", what, text);
}

static void add_details(struct wf_buf *out, const struct wd_zygote *z, long long now) {
    char text[600], pause[32];
    wf_fmt(text, sizeof text, "%s%s%s%s", wd_text(z->python), z->version && *z->version ? " (" : "",
           wd_text(z->version), z->version && *z->version ? ")" : "");
    add_detail(out, "python", text);
    add_detail(out, "options", z->options);
    add_detail(out, "preload", z->preload);
    add_detail(out, "init", z->init);
    if (z->asked == WF_ASKED_DIRECTORY)
        add_detail(out, "only in", z->directory);
    if (z->state == ZS_FAILED && z->retry_us > now) {
        duration(z->retry_us - now + WD_SECOND - 1, pause, sizeof pause);
        wf_fmt(text, sizeof text, "%s (not tried again for %s)", z->why, pause);
        add_detail(out, "failed", text);
    } else if (z->state != ZS_READY) {
        add_detail(out, z->state == ZS_FAILED ? "failed" : "why", z->why);
    }
    for (unsigned i = 0; i < z->note_count; i++)
        add_detail(out, "note", z->notes[i]);
}

static void add_head(struct daemon *d, struct wf_buf *out, long long now) {
    char up[32], size[32];
    unsigned count = 0;
    unsigned long total = 0;
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next) {
        count += z->state == ZS_READY;
        total += z->pss_kb;
    }
    duration(now - d->started_us, up, sizeof up);
    memory(total, size, sizeof size);
    wf_buf_addf(out,
                "warmforkd " WF_VERSION ", pid %d, up %s, %u zygote%s ready, %s, directory %s\n",
                (int)getpid(), up, count, count == 1 ? "" : "s", size, d->rundir);
    if (d->last_refusal[0])
        wf_buf_addf(out, "refused %llu requests; the last: %s\n", d->refused, d->last_refusal);
}

static bool shown(const struct wd_zygote *z, const char *name) {
    return z->state != ZS_DEAD && (!name[0] || strcmp(wd_text(z->name), name) == 0);
}

bool wd_status(struct daemon *d, const char *name, struct wf_buf *out) {
    long long now = wf_now_us();
    size_t width[COLUMNS];
    const char *cells[COLUMNS];
    struct row row;
    bool any = false;
    add_head(d, out, now);
    for (int i = 0; i < COLUMNS; i++)
        width[i] = strlen(titles[i]);
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next) {
        if (!shown(z, name))
            continue;
        any = true;
        fill_row(z, now, &row);
        for (int i = 0; i < COLUMNS; i++)
            if (strlen(row.cell[i]) > width[i])
                width[i] = strlen(row.cell[i]);
    }
    if (!any)
        return !name[0];
    wf_buf_add(out, "\n", 1);
    add_row(out, (const char **)titles, width);
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next) {
        if (!shown(z, name))
            continue;
        fill_row(z, now, &row);
        for (int i = 0; i < COLUMNS; i++)
            cells[i] = row.cell[i];
        add_row(out, cells, width);
        add_details(out, z, now);
    }
    return true;
}
