/* The zygotes as a list: made, found, named and freed. */
#include "daemon/daemon.h"

#include "base/io.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *wd_state_name(enum wd_state state) {
    static const char *const names[ZS_COUNT] = {
        [ZS_NEW] = "new",         [ZS_ADOPTING] = "adopting",   [ZS_HELD] = "held",
        [ZS_WAITING] = "waiting", [ZS_LAUNCHING] = "launching", [ZS_WARMING] = "warming",
        [ZS_READY] = "ready",     [ZS_RETIRING] = "retiring",   [ZS_FAILED] = "failed",
        [ZS_DEAD] = "dead",
    };
    return names[state];
}

/* NULL when memory ran out. */
struct wd_zygote *wd_zygote_new(struct daemon *d, const uint8_t key[WF_KEY_SIZE],
                                const uint8_t base_key[WF_KEY_SIZE]) {
    struct wd_zygote *z = calloc(1, sizeof *z);
    if (!z)
        return NULL;
    z->id = ++d->last_id;
    memcpy(z->key, key, WF_KEY_SIZE);
    memcpy(z->base_key, base_key, WF_KEY_SIZE);
    z->exit.fd = z->requester.fd = z->control.fd = z->errors.fd = z->launch_fd = z->status = -1;
    wf_framer_init(&z->framer);
    z->created_us = z->used_us = wf_now_us();
    z->next = d->zygotes;
    d->zygotes = z;
    return z;
}

void wd_zygote_close(struct daemon *d, struct wd_zygote *z) {
    wd_unwatch(d, &z->exit);
    wd_unwatch(d, &z->requester);
    wd_unwatch(d, &z->control);
    wd_unwatch(d, &z->errors);
    wf_close(&z->launch_fd);
}

void wd_zygote_free(struct daemon *d, struct wd_zygote *z) {
    for (struct wd_zygote **at = &d->zygotes; *at; at = &(*at)->next)
        if (*at == z) {
            *at = z->next;
            break;
        }
    wd_zygote_close(d, z);
    wf_framer_done(&z->framer);
    free(z->request);
    free(z->name);
    free(z->python);
    free(z->options);
    free(z->preload);
    free(z->init);
    free(z->directory);
    free(z->version);
    for (unsigned i = 0; i < z->note_count; i++)
        free(z->notes[i]);
    free(z);
}

bool wd_zygote_live(const struct wd_zygote *z) { return z->state > ZS_NEW && z->state <= ZS_READY; }

bool wd_zygote_is_base(const struct wd_zygote *z) {
    return memcmp(z->key, z->base_key, WF_KEY_SIZE) == 0;
}

struct wd_zygote *wd_zygote_failure(const struct daemon *d, const uint8_t key[WF_KEY_SIZE]) {
    for (struct wd_zygote *z = d->zygotes; z; z = z->next)
        if (z->state == ZS_FAILED && memcmp(z->key, key, WF_KEY_SIZE) == 0)
            return z;
    return NULL;
}

const char *wd_text(const char *text) { return text ? text : ""; }

/* "sage", "python3 + numpy,pandas" or "python3", with "#1" for a variant but the first. */
void wd_zygote_label(const struct wd_zygote *z, char *out, size_t size) {
    const char *python = wd_text(z->python), *slash = strrchr(python, '/');
    char variant[16] = "";
    if (z->variant > 0)
        wf_fmt(variant, sizeof variant, " #%u", z->variant);
    if (z->name && z->name[0])
        wf_fmt(out, size, "%s%s", z->name, variant);
    else if (z->preload && z->preload[0])
        wf_fmt(out, size, "%s + %.*s%s", slash ? slash + 1 : python, 100, z->preload, variant);
    else if (python[0])
        wf_fmt(out, size, "%s%s", slash ? slash + 1 : python, variant);
    else
        wf_fmt(out, size, "zygote %02x%02x%02x%02x%s", z->key[0], z->key[1], z->key[2], z->key[3],
               variant);
}

/* Only what is this zygote's own: another may have taken its slot since. */
void wd_zygote_unlink(struct daemon *d, const struct wd_zygote *z, bool control) {
    char name[48];
    for (const struct wd_zygote *other = d->zygotes; other; other = other->next)
        if (other != z && wd_zygote_live(other) && other->variant == z->variant &&
            memcmp(other->key, z->key, WF_KEY_SIZE) == 0)
            return;
    wf_route_name(z->key, z->variant, false, name);
    unlinkat(d->rundir_fd, name, 0);
    if (!control)
        return;
    wf_route_name(z->key, z->variant, true, name);
    unlinkat(d->rundir_fd, name, 0);
}
