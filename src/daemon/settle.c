/* After each batch of events: everything that follows from the state as it is now, rather than from
 * an event. */
#include "daemon/daemon.h"

#include "base/io.h"
#include "base/log.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANDIDATES_AT_ONCE                                                                         \
    2 /* of one base: imports are heavy, and the user has other work to do                         \
       */
#define LINGER_US (60 * WD_SECOND)

static bool same_key(const uint8_t *a, const uint8_t *b) { return memcmp(a, b, WF_KEY_SIZE) == 0; }

static bool is_base_of(const struct wd_zygote *base, const struct wd_zygote *z) {
    return wd_zygote_is_base(base) && same_key(base->key, z->base_key);
}

/* The one made from the same environment, else the first in order. */
struct wd_zygote *wd_base_for(struct daemon *d, const struct wd_zygote *z) {
    struct wd_zygote *best = NULL;
    for (struct wd_zygote *base = d->zygotes; base; base = base->next) {
        if (base->state != ZS_READY || !is_base_of(base, z) || z->bases_tried >> base->variant & 1)
            continue;
        bool same = base->env_hash == z->env_hash,
             best_same = best && best->env_hash == z->env_hash;
        if (!best || same > best_same || (same == best_same && base->variant < best->variant))
            best = base;
    }
    return best;
}

static unsigned candidates_of(const struct daemon *d, const struct wd_zygote *base) {
    unsigned count = 0;
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next)
        count += z->state == ZS_WARMING && z->base_id == base->id;
    return count;
}

static bool base_is_coming(const struct daemon *d, const struct wd_zygote *z) {
    for (const struct wd_zygote *base = d->zygotes; base; base = base->next)
        if (is_base_of(base, z) && wd_zygote_live(base) && base->state != ZS_READY)
            return true;
    return false;
}

/* One that waits for its base: forked from it, or the base is started, once; or there will be none.
 */
static void feed(struct daemon *d, struct wd_zygote *z, long long now) {
    struct wf_err err;
    struct wd_zygote *base = wd_base_for(d, z);
    if (base) {
        if (candidates_of(d, base) < CANDIDATES_AT_ONCE)
            wd_zygote_event(d, z, ZE_BASE_READY);
        return;
    }
    if (base_is_coming(d, z))
        return;
    struct wd_zygote *failure = wd_zygote_failure(d, z->base_key);
    bool resting = failure && now < failure->retry_us && !z->urgent;
    if (!z->made_base && !resting) {
        z->made_base = true;
        if (wd_warm_base(d, z, &err))
            return;
        wf_fmt(z->why, sizeof z->why, "no base zygote: %s", err.text);
    } else {
        wf_fmt(z->why, sizeof z->why, "no base zygote: %s",
               failure ? failure->why : "none suits this environment");
    }
    wd_zygote_event(d, z, ZE_BASE_LOST);
}

static void retire(struct daemon *d, struct wd_zygote *z, const char *why) {
    wf_fmt(z->why, sizeof z->why, "%s", why);
    wd_zygote_event(d, z, ZE_RETIRE);
}

static bool needed(const struct daemon *d, const struct wd_zygote *base) {
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next)
        if (z != base && (z->state == ZS_WAITING || z->state == ZS_WARMING) && is_base_of(base, z))
            return true;
    return base->stats.running > 0;
}

static void settle_zygotes(struct daemon *d, long long now) {
    for (struct wd_zygote *z = d->zygotes; z; z = z->next) {
        if (z->deadline_us && now >= z->deadline_us) {
            z->deadline_us = 0;
            wd_zygote_event(d, z, ZE_TIMEOUT);
        }
        if (z->state == ZS_HELD && now >= z->held_until_us)
            wd_hold_release(d, z);
        if (z->state == ZS_WAITING)
            feed(d, z, now);
        if (z->state == ZS_READY && d->options.idle_us && now - z->used_us >= d->options.idle_us) {
            if (needed(d, z))
                z->used_us = now;
            else
                retire(d, z, "nothing has run in it for long");
        }
    }
}

static void limit_memory(struct daemon *d) {
    unsigned long total = 0;
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next)
        total += z->state == ZS_READY ? z->pss_kb : 0;
    while (d->memory_max_kb && total > d->memory_max_kb) {
        struct wd_zygote *oldest = wd_oldest(d, NULL, NULL);
        if (!oldest)
            return;
        total -= oldest->pss_kb < total ? oldest->pss_kb : total;
        retire(d, oldest,
               "the zygotes together hold too much memory, and it is the least recently used");
    }
}

/* What a stop has to wait for; one being adopted may turn out to be it. */
static bool stop_concerns(const struct wd_zygote *z, const char *name) {
    if (z->state == ZS_ADOPTING)
        return true;
    if (name[0] && strcmp(wd_text(z->name), name) != 0)
        return false;
    return wd_zygote_live(z) || (z->state == ZS_RETIRING && z->stats.running == 0);
}

static void settle_stop(struct daemon *d, struct wd_conn *c, long long now) {
    char text[200];
    c->stopped += wd_stop(d, c->name,
                          "stopped by warmctl"); /* such as were being adopted when it came */
    for (const struct wd_zygote *z = d->zygotes; z && now < c->deadline_us; z = z->next)
        if (stop_concerns(z, c->name))
            return;
    unsigned long running = wd_running(d, c->name);
    if (c->name[0] && c->stopped == 0 && !c->defined) {
        wf_fmt(text, sizeof text, "no zygote named %s", c->name);
        wd_conn_reply(d, c, 1, text);
        return;
    }
    wf_fmt(text, sizeof text, "stopped %u zygote%s", c->stopped, c->stopped == 1 ? "" : "s");
    if (running > 0) {
        size_t size = strlen(text);
        wf_fmt(text + size, sizeof text - size, "; %lu program%s still run%s, to the end", running,
               running == 1 ? "" : "s", running == 1 ? "s" : "");
    }
    wd_conn_reply(d, c, 0, text);
}

static void settle_warm(struct daemon *d, struct wd_conn *c) {
    const struct wd_zygote *z = d->zygotes;
    while (z && z->id != c->zygote_id)
        z = z->next;
    if (z && wd_zygote_live(z) && z->state != ZS_READY)
        return;
    if (z && z->state == ZS_READY) {
        char text[80];
        wf_fmt(text, sizeof text, "ready after %lld ms", (z->ready_us - z->created_us) / 1000);
        wd_conn_reply(d, c, 0, text);
    } else {
        wd_conn_reply(d, c, 1, z && z->why[0] ? z->why : "it was stopped before it was ready");
    }
}

static bool settle_conns(struct daemon *d, long long now) {
    bool busy = false;
    for (int i = 0; i < WD_CONNS; i++) {
        struct wd_conn *c = d->conn[i];
        if (!c || c->dead)
            continue;
        if (c->wait == WD_WAIT_ASK)
            wd_ask_settle(d, c, now);
        else if (c->wait == WD_WAIT_STOP)
            settle_stop(d, c, now);
        else if (c->wait == WD_WAIT_WARM)
            settle_warm(d, c);
        else if (now >= c->deadline_us)
            wd_conn_close(d, c);
        busy |= !c->dead && c->wait == WD_WAIT_STOP;
    }
    return busy;
}

/* No zygote is left behind that would have been stopped had it answered sooner. */
static bool leaving_is_done(struct daemon *d) {
    if (d->leaving)
        wd_stop(d, "", "the daemon is stopping");
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next)
        if (z->state == ZS_ADOPTING)
            return false;
    return d->leaving;
}

static bool any_left(const struct daemon *d) {
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next)
        if (z->state != ZS_FAILED && z->state != ZS_DEAD)
            return true;
    for (int i = 0; i < WD_CONNS; i++)
        if (d->conn[i])
            return true;
    return false;
}

/* Somebody removed the directory, or the socket in it: nobody can reach us, and the next client
 * starts another daemon. */
static bool displaced(const struct daemon *d) {
    struct stat ours, there;
    if (fstat(d->rundir_fd, &ours) < 0 || stat(d->rundir, &there) < 0)
        return true;
    if (ours.st_dev != there.st_dev || ours.st_ino != there.st_ino)
        return true;
    return !d->activated && fstatat(d->rundir_fd, "daemon.sock", &there, AT_SYMLINK_NOFOLLOW) < 0;
}

static long long linger(const struct daemon *d) {
    return d->options.idle_us < LINGER_US ? d->options.idle_us : LINGER_US;
}

static void settle_end(struct daemon *d, bool stopping, long long now) {
    if (d->options.idle_us && !any_left(d) && now - d->used_us >= linger(d)) {
        wf_log(WF_LOG_INFO, "nothing to do any more");
        d->leaving = true;
    }
    if (stopping || !leaving_is_done(d))
        return;
    /* The name goes while we still hold the lock: who finds it missing starts the next daemon after
     * us. */
    if (!d->activated && !d->displaced)
        unlinkat(d->rundir_fd, "daemon.sock", 0);
    d->done = true;
}

static void free_dead(struct daemon *d) {
    unsigned failures = 0;
    struct wd_zygote *oldest = NULL;
    for (struct wd_zygote *z = d->zygotes, *next; z; z = next) {
        next = z->next;
        if (z->state == ZS_FAILED && (++failures, !oldest || z->retry_us < oldest->retry_us))
            oldest = z;
        if (z->state != ZS_DEAD)
            continue;
        d->used_us = wf_now_us();
        wd_zygote_free(d, z);
    }
    if (failures > WD_FAILURES)
        wd_zygote_free(d, oldest);
}

void wd_settle(struct daemon *d) {
    long long now = wf_now_us();
    if (now - d->measured_us >= WD_MEASURE_US) {
        wd_measure(d);
        d->displaced = displaced(d);
        if (d->displaced && !d->leaving) {
            wf_log(WF_LOG_WARN, "%s was removed: leaving", d->rundir);
            d->leaving = true;
            wd_stop(d, "", "its directory was removed");
        }
    }
    settle_zygotes(d, now);
    limit_memory(d);
    bool stopping = settle_conns(d, now);
    free_dead(d);
    wd_server_pause(d);
    wd_log_rotate(d);
    settle_end(d, stopping, now);
}

static void sooner(long long *at, long long than) {
    if (than > 0 && (*at == 0 || than < *at))
        *at = than;
}

long long wd_next_deadline(const struct daemon *d) {
    long long at = 0;
    bool any = false;
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next) {
        sooner(&at, z->deadline_us);
        if (z->state == ZS_HELD)
            sooner(&at, z->held_until_us);
        if (z->state == ZS_READY && d->options.idle_us)
            sooner(&at, z->used_us + d->options.idle_us);
        any |= z->state == ZS_READY;
    }
    for (int i = 0; i < WD_CONNS; i++)
        if (d->conn[i])
            sooner(&at, d->conn[i]->deadline_us);
    if (any)
        sooner(&at, d->measured_us + WD_MEASURE_US);
    if (d->options.idle_us && !any_left(d))
        sooner(&at, d->used_us + linger(d));
    return at;
}
