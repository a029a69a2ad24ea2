/* The writing half of the codec; decode.c is its mirror image, field by field. Appending to a
 * buffer that is full fails once and for all (base/buf.h), so that each message needs one check at
 * its end. */
#include "wire/wire.h"

static void add_span(struct wf_buf *out, struct wf_span span) {
    wf_buf_add_u32(out, span.size);
    wf_buf_add(out, span.data, span.size);
}

static void add_place(struct wf_buf *out, const struct wf_place *p) {
    for (int i = 0; i < 3; i++)
        wf_buf_add_u32(out, p->uid[i]);
    for (int i = 0; i < 3; i++)
        wf_buf_add_u32(out, p->gid[i]);
    wf_buf_add_u64(out, p->groups);
    wf_buf_add_u64(out, p->ns[WF_NS_MNT]);
    wf_buf_add_u64(out, p->root_dev);
    wf_buf_add_u64(out, p->root_ino);
    for (int i = 0; i < 3; i++)
        wf_buf_add_u64(out, p->caps[i]);
    wf_buf_add_u32(out, p->no_new_privs);
    wf_buf_add_u32(out, p->personality);
}

bool wf_encode_header(struct wf_buf *out, const struct wf_header *h) {
    wf_buf_add_u32(out, h->magic);
    wf_buf_add_u16(out, h->version);
    wf_buf_add_u16(out, h->type);
    wf_buf_add_u32(out, h->size);
    wf_buf_add_u16(out, h->nfds);
    wf_buf_add_u16(out, h->flags);
    return !out->failed;
}

bool wf_encode_bounds(struct wf_buf *out, const struct wf_request *r) {
    for (int i = 0; i < WF_NS_COUNT; i++)
        if (i != WF_NS_MNT)
            wf_buf_add_u64(out, r->place.ns[i]);
    for (int i = 0; i < WF_LIMITS; i++) {
        wf_buf_add_u64(out, r->limit[i].soft);
        wf_buf_add_u64(out, r->limit[i].hard);
    }
    wf_buf_add_u64(out, r->sig_ignored);
    wf_buf_add_u32(out, (uint32_t)r->nice);
    wf_buf_add_u32(out, (uint32_t)r->sched);
    wf_buf_add_u32(out, (uint32_t)r->ioprio);
    wf_buf_add_u32(out, (uint32_t)r->marks.oom_score_adj);
    wf_buf_add_u32(out, r->marks.loginuid);
    wf_buf_add_u32(out, r->marks.filters);
    add_span(out, r->cpus);
    return !out->failed;
}

bool wf_encode_request(struct wf_buf *out, const struct wf_request *r) {
    wf_buf_add(out, r->key, WF_KEY_SIZE);
    wf_buf_add(out, r->base_key, WF_KEY_SIZE);
    add_place(out, &r->place);
    wf_buf_add_u64(out, r->sig_blocked);
    wf_buf_add_u32(out, r->umask);
    wf_buf_add_u32(out, r->pid);
    wf_buf_add_u32(out, r->variant);
    wf_buf_add_u32(out, r->stdio);
    wf_buf_add_u32(out, r->mode);
    wf_buf_add_u32(out, r->target);
    wf_buf_add_u32(out, r->target_offset);
    wf_buf_add_u32(out, r->options);
    wf_buf_add_u32(out, r->argc);
    wf_buf_add_u32(out, r->envc);
    wf_buf_add_u32(out, r->bounded);
    if (r->bounded)
        wf_encode_bounds(out, r);
    add_span(out, r->python);
    add_span(out, r->zygote);
    add_span(out, r->preload);
    add_span(out, r->init);
    add_span(out, r->directory);
    add_span(out, r->fdnums);
    wf_buf_add_u32(out, r->strings.size); /* the bytes themselves follow from where they lie */
    return !out->failed;
}

bool wf_encode_started(struct wf_buf *out, const struct wf_started *m) {
    wf_buf_add_u32(out, m->pid);
    wf_buf_add_u64(out, m->cookie);
    return !out->failed;
}

bool wf_encode_exited(struct wf_buf *out, const struct wf_exited *m) {
    wf_buf_add_u32(out, m->kind);
    wf_buf_add_u32(out, m->value);
    wf_buf_add_u32(out, m->core);
    return !out->failed;
}

bool wf_encode_text(struct wf_buf *out, const struct wf_text *m) {
    wf_buf_add_u32(out, m->code);
    add_span(out, m->text);
    return !out->failed;
}

bool wf_encode_ready(struct wf_buf *out, const struct wf_ready *m) {
    wf_buf_add_u32(out, m->pid);
    wf_buf_add_u32(out, m->variant);
    wf_buf_add_u32(out, m->asked);
    wf_buf_add(out, m->key, WF_KEY_SIZE);
    add_span(out, m->name);
    add_span(out, m->python);
    add_span(out, m->options);
    add_span(out, m->preload);
    add_span(out, m->init);
    add_span(out, m->directory);
    add_span(out, m->version);
    return !out->failed;
}

bool wf_encode_stats(struct wf_buf *out, const struct wf_stats *m) {
    wf_buf_add_u32(out, m->standby);
    wf_buf_add_u32(out, m->running);
    wf_buf_add_u64(out, m->served);
    wf_buf_add_u64(out, m->refused);
    wf_buf_add_u64(out, m->last_us);
    return !out->failed;
}

bool wf_encode_definition(struct wf_buf *out, const struct wf_definition *m) {
    add_span(out, m->name);
    add_span(out, m->preload);
    add_span(out, m->init);
    return !out->failed;
}
