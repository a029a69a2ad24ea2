/* What a WF_WARM means. It says no more than "a client found nothing that suits": whether that is
 * still so, and what to do about it, is decided here.
 *
 * - On its way already (adopting, waiting, launching, warming): nothing to do.
 * - Failed before: nothing, until the back-off is over. WF_F_WAIT, a person's wish, does not wait
 * for that.
 * - Ready: the client found it unsuitable (its inputs differ), or asked before it was ready. The
 * latter is assumed when it has been ready for less than a second, or a variant was made from
 * exactly this environment (and, if it asked for something there, in this directory): it would
 * consult the same values. Else another variant is made, in the
 * least free slot, as clients look at them in order; when all four are taken, in that of the least
 * recently used. A key whose variants are thrown away unused is a program that consults what
 *   changes with every run: each such loss doubles the time until the next is made.
 * - WF_F_WAIT with something ready: ready is what was asked for. Unless the zygote's definition has
 * changed: then the old ones are retired first. */
#include "daemon/daemon.h"

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static bool same_key(const uint8_t *a, const uint8_t *b) { return memcmp(a, b, WF_KEY_SIZE) == 0; }

static bool span_is(const struct wf_span *s, const char *text) {
    return s->size == strlen(wd_text(text)) && memcmp(s->data, wd_text(text), s->size) == 0;
}

/* Of the environment, whatever its order: a sum over entries. */
static uint64_t hash_environment(const struct wf_request *r) {
    const char *at = (const char *)r->strings.data, *end = at + r->strings.size;
    uint64_t sum = 1;
    for (uint32_t i = 0; at < end; i++) {
        size_t size = strlen(at);
        if (i >= r->argc) {
            struct wf_hash h;
            uint8_t digest[16];
            uint64_t part;
            wf_hash_init(&h);
            wf_hash_add(&h, at, size);
            wf_hash_done(&h, digest);
            memcpy(&part, digest, sizeof part);
            sum += part;
        }
        at += size + 1;
    }
    return sum ? sum : 1;
}

/* How the requester is placed against the daemon, whose limits every worker inherits: -1: it is
 * allowed something that no worker can be given; +1: the other way round; both are counted. */
static void compare_limits(const struct daemon *d, const struct wf_request *r, int *ret_more,
                           int *ret_less) {
    bool free_limits = d->place.caps[0] >> CAP_SYS_RESOURCE & 1,
         free_nice = d->place.caps[0] >> CAP_SYS_NICE & 1;
    *ret_more = *ret_less = 0;
    for (int i = 0; i < WF_LIMITS && !free_limits; i++) {
        *ret_more += r->limit[i].hard > d->limit[i].hard;
        *ret_less += r->limit[i].hard < d->limit[i].hard;
    }
    long long reach = d->limit[RLIMIT_NICE].hard > 40 ? -20
                                                      : 20 - (long long)d->limit[RLIMIT_NICE].hard;
    if (!free_nice) {
        *ret_more += r->nice < d->nice && r->nice < reach;
        *ret_less += r->nice > d->nice;
    }
}

static void refuse(struct daemon *d, struct wd_conn *c, bool wait, const char *why) {
    d->refused++;
    if (strcmp(d->last_refusal, why) != 0) {
        wf_fmt(d->last_refusal, sizeof d->last_refusal, "%s", why);
        wf_log(WF_LOG_WARN, "not warmed: %s", why);
    }
    if (wait)
        wd_conn_reply(d, c, 1, why);
}

/* False, when no zygote of this daemon could serve the requester. A daemon that is in nobody's
 * favour makes way: only when the requester is better placed in something and worse in nothing,
 * lest two kinds of callers drive each other out. */
static bool suits(struct daemon *d, struct wd_conn *c, const struct wf_request *r, bool wait) {
    int more, less;
    if (d->leaving) {
        refuse(d, c, wait, "the daemon is stopping");
        return false;
    }
    if (memcmp(&r->place, &d->place, sizeof r->place) != 0) {
        refuse(d, c, wait,
               "the request comes from other namespaces, ids or capabilities than the daemon's");
        return false;
    }
    compare_limits(d, r, &more, &less);
    if (more == 0)
        return true;
    if (less > 0 || d->activated) {
        refuse(d, c, wait, "the requester's hard limits or niceness are beyond the daemon's");
        return false;
    }
    static const char why[] =
        "the requester's hard limits or niceness are beyond the daemon's, which makes way";
    refuse(d, c, false, why);
    if (wait)
        wd_conn_reply(d, c, WD_MAKES_WAY, why);
    d->leaving = true;
    wd_stop(d, "", "the daemon makes way for one with higher limits");
    return false;
}

static bool remember(struct wd_zygote *z, const struct wf_request *r) {
    WF_AUTO_BUF out;
    wf_buf_init(&out, WF_MAX_PAYLOAD);
    if (!wf_encode_request(&out, r) || !wf_buf_add(&out, r->strings.data, r->strings.size))
        return false;
    z->request = out.data;
    z->request_size = out.size;
    wf_buf_init(&out, 0); /* the block is the zygote's now */
    z->name = strndup((const char *)r->zygote.data, r->zygote.size);
    z->python = strndup((const char *)r->python.data, r->python.size);
    z->preload = strndup((const char *)r->preload.data, r->preload.size);
    z->init = strndup((const char *)r->init.data, r->init.size);
    WF_AUTO_BUF options;
    wf_buf_init(&options, 4096);
    const char *at = (const char *)r->strings.data;
    for (uint32_t i = 0; i <= r->options && i < r->argc; i++, at += strlen(at) + 1)
        if (i > 0)
            wf_buf_addf(&options, "%s%s", i > 1 ? " " : "", at);
    z->options = strndup((const char *)options.data, options.size);
    return z->name && z->python && z->preload && z->init;
}

/* The least slot nobody holds; when there is none, that of the least recently used variant, which
 * is retired. */
static int take_slot(struct daemon *d, const uint8_t *key, struct wf_err *err) {
    unsigned taken = 0;
    for (struct wd_zygote *z = d->zygotes; z; z = z->next)
        if (wd_zygote_live(z) && same_key(z->key, key))
            taken |= 1u << z->variant;
    for (int i = 0; i < WF_VARIANTS; i++)
        if (!(taken >> i & 1))
            return i;
    struct wd_zygote *oldest = wd_oldest(d, key, NULL);
    if (!oldest)
        return wf_err_msg(err, "all %d variants are on their way", WF_VARIANTS);
    int slot = (int)oldest->variant;
    wf_fmt(oldest->why, sizeof oldest->why, "another environment needs its place");
    wd_zygote_event(d, oldest, ZE_RETIRE);
    return slot;
}

static int make_room(struct daemon *d, const uint8_t *base_key, struct wf_err *err) {
    unsigned live = 0;
    for (struct wd_zygote *z = d->zygotes; z; z = z->next)
        live += wd_zygote_live(z);
    if (live < WD_ZYGOTES)
        return 0;
    struct wd_zygote *oldest = wd_oldest(d, NULL, base_key);
    if (!oldest)
        return wf_err_msg(err, "%d zygotes are on their way already", WD_ZYGOTES);
    wf_fmt(oldest->why, sizeof oldest->why,
           "there are %d zygotes, and it is the least recently used", WD_ZYGOTES);
    wd_zygote_event(d, oldest, ZE_RETIRE);
    return 0;
}

/* Starts one for `r`, as a base when `base`: then without preload and name, under the base's key.
 * `hold`: not before the requester has ended. */
struct wd_zygote *wd_zygote_wanted(struct daemon *d, const struct wf_request *r, uint64_t env_hash,
                                   bool base, bool hold, struct wf_err *err) {
    struct wf_request mine = *r;
    if (base) {
        memcpy(mine.key, mine.base_key, WF_KEY_SIZE);
        mine.zygote.size = mine.preload.size = mine.init.size = 0;
    }
    if (make_room(d, mine.base_key, err) < 0)
        return NULL;
    int slot = take_slot(d, mine.key, err);
    if (slot < 0)
        return NULL;
    mine.variant = (uint32_t)slot;
    struct wd_zygote *z = wd_zygote_new(d, mine.key, mine.base_key);
    if (!z) {
        wf_err_msg(err, "out of memory for a zygote");
        return NULL;
    }
    z->variant = mine.variant;
    z->env_hash = env_hash;
    if (!remember(z, &mine)) {
        z->state = ZS_DEAD;
        wf_err_msg(err, "out of memory for a request");
        return NULL;
    }
    if (hold && wd_hold(d, z, r->pid))
        return z;
    z->deadline_us = wf_now_us() + WD_QUEUE_US;
    wd_zygote_event(d, z, base || wd_zygote_is_base(z) ? ZE_LAUNCH : ZE_QUEUE);
    return z;
}

bool wd_warm_base(struct daemon *d, struct wd_zygote *z, struct wf_err *err) {
    struct wf_request r;
    const char *wrong = wf_decode_request(z->request, z->request_size, &r);
    if (wrong)
        return wf_err_msg(err, "request: %s", wrong) == 0; /* false */
    struct wd_zygote *base = wd_zygote_wanted(d, &r, z->env_hash, true, false, err);
    if (base)
        z->bases_tried &= ~(1u << base->variant);
    return base;
}

/* One that is being adopted is stopped when it has answered: settle.c asks again. */
unsigned wd_stop(struct daemon *d, const char *name, const char *reason) {
    unsigned count = 0;
    for (struct wd_zygote *z = d->zygotes; z; z = z->next) {
        if (name[0] && strcmp(wd_text(z->name), name) != 0)
            continue;
        if ((!wd_zygote_live(z) && z->state != ZS_FAILED) || z->state == ZS_ADOPTING)
            continue;
        count += wd_zygote_live(z);
        if (z->state != ZS_FAILED)
            wf_fmt(z->why, sizeof z->why, "%s", reason);
        wd_zygote_event(d, z, ZE_RETIRE);
    }
    return count;
}

/* The zygotes of this name that were made from another definition. */
static void retire_other_definitions(struct daemon *d, const struct wf_request *r) {
    for (struct wd_zygote *z = d->zygotes; z && r->zygote.size > 0; z = z->next) {
        if (!wd_zygote_live(z) || !span_is(&r->zygote, z->name) ||
            (span_is(&r->preload, z->preload) && span_is(&r->init, z->init)))
            continue;
        wf_fmt(z->why, sizeof z->why, "its definition was replaced");
        wd_zygote_event(d, z, ZE_RETIRE);
    }
}

static bool churns(struct daemon *d, const struct wd_zygote *oldest, long long now);

static bool is_from(const struct wd_zygote *z, const struct wf_request *r, uint64_t env_hash) {
    return z->env_hash == env_hash &&
           (z->asked == WF_ASKED_NOTHING || span_is(&r->directory, z->directory));
}

/* What is there for this key: something on its way (in *ret_coming), ready ones, whether the
 * request is late. */
static unsigned survey(struct daemon *d, const struct wf_request *r, uint64_t env_hash,
                       struct wd_zygote **ret_coming, bool *ret_late) {
    unsigned ready = 0;
    long long now = wf_now_us();
    *ret_coming = NULL;
    *ret_late = false;
    for (struct wd_zygote *z = d->zygotes; z; z = z->next) {
        if (!wd_zygote_live(z) || !same_key(z->key, r->key))
            continue;
        if (z->state != ZS_READY)
            *ret_coming = z;
        else if (++ready, now - z->ready_us < WD_DOUBLE_US || is_from(z, r, env_hash))
            *ret_late = true;
    }
    if (ready == WF_VARIANTS && churns(d, wd_oldest(d, r->key, NULL), now))
        *ret_late = true;
    return ready;
}

/* A variant about to be thrown away that has never run anything: the next is made 10 s after it was
 * ready, and each time twice as late. */
static bool churns(struct daemon *d, const struct wd_zygote *oldest, long long now) {
    if (!oldest || oldest->stats.served > 0) {
        d->churn = 0;
        return false;
    }
    long long pause = 10 * WD_SECOND << (d->churn < 6 ? d->churn : 6);
    if (now - d->churn_us < pause)
        return true;
    d->churn++;
    d->churn_us = now;
    return false;
}

static void wait_for(struct wd_conn *c, const struct wd_zygote *z) {
    c->wait = WD_WAIT_WARM;
    c->zygote_id = z->id;
    c->deadline_us = 0; /* the zygote has one */
}

void wd_warm(struct daemon *d, struct wd_conn *c, const struct wf_request *r, bool wait) {
    struct wd_zygote *coming, *failed;
    struct wf_err err;
    bool late;
    if (!suits(d, c, r, wait))
        return;
    if (wait)
        retire_other_definitions(d, r);
    uint64_t env_hash = hash_environment(r);
    unsigned ready = survey(d, r, env_hash, &coming, &late);
    if (coming) {
        if (wait || r->pid != coming->requester_pid)
            wd_hold_release(d, coming);
        if (wait)
            wait_for(c, coming);
        return;
    }
    if (ready > 0 && wait) {
        wd_conn_reply(d, c, 0, "it is ready already");
        return;
    }
    if (ready > 0 && late)
        return;
    failed = wd_zygote_failure(d, r->key);
    if (failed && !wait && wf_now_us() < failed->retry_us)
        return;
    struct wd_zygote *z = wd_zygote_wanted(d, r, env_hash, false, !wait, &err);
    if (!z) {
        refuse(d, c, wait, err.text);
    } else if (wait) {
        z->urgent = true;
        wait_for(c, z);
    }
}
