/* What a zygote says to its daemon. */
#include "zygote/zygote.h"

#include "base/io.h"
#include "channel/channel.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#define STATS_US 1000000LL

static long long told_us;

bool zy_send(int fd, enum wf_type type, struct wf_buf *out) {
    struct iovec iov = { out->data, out->size };
    return fd >= 0 && !out->failed && wf_channel_send(fd, type, 0, &iov, 1, NULL, 0, NULL) == 0;
}

void zy_tell(enum wf_type type, unsigned code, const char *text) {
    struct wf_buf out;
    wf_buf_init(&out, WF_MAX_TEXT);
    struct wf_text m = { code, { (const uint8_t *)text, (uint32_t)strlen(text) } };
    wf_encode_text(&out, &m);
    zy_send(zy.control, type, &out);
    wf_buf_done(&out);
}

bool zy_tell_ready(void) {
    struct wf_buf out;
    wf_buf_init(&out, WF_MAX_TEXT);
    const struct wf_request *r = &zy.request;
    const char *s = (const char *)r->strings.data, *first = s + strlen(s) + 1, *end = first;
    for (uint32_t i = 0; i < r->options; i++)
        end += strlen(end) + 1;
    const char *directory;
    unsigned asked = zy_here_asked(&directory);
    struct wf_ready m = {
        .pid = (uint32_t)getpid(),
        .variant = zy.variant,
        .asked = asked,
        .name = r->zygote,
        .python = r->python,
        .options = { (const uint8_t *)first, (uint32_t)(end - first) },
        .preload = r->preload,
        .init = r->init,
        .directory = { (const uint8_t *)directory, (uint32_t)strlen(directory) },
        .version = { (const uint8_t *)zy.version, (uint32_t)strlen(zy.version) },
    };
    memcpy(m.key, zy.key, WF_KEY_SIZE);
    wf_encode_ready(&out, &m);
    zy.ready_told = zy_send(zy.control, WF_READY, &out);
    wf_buf_done(&out);
    return zy.ready_told;
}

void zy_tell_stats(void) {
    unsigned long long served = atomic_load(&zy.shared->served);
    long long now = wf_now_us();
    if (zy.control < 0 || now - told_us < STATS_US || (served == zy.served_told && !zy.stats_due))
        return;
    struct wf_buf out;
    wf_buf_init(&out, 256);
    struct wf_stats m = { zy_count(ZY_WAITING), zy_count(ZY_TAKEN), served,
                          atomic_load(&zy.shared->refused),
                          (uint64_t)atomic_load(&zy.shared->last_us) };
    wf_encode_stats(&out, &m);
    zy_send(zy.control, WF_STATS, &out);
    wf_buf_done(&out);
    zy.served_told = served;
    zy.stats_due = false;
    told_us = now;
}

void zy_tell_process(void) {
    uint8_t small[32];
    struct wf_buf out;
    wf_buf_init_fixed(&out, small, sizeof small);
    struct wf_started m = { (uint32_t)getpid(), zy_own_start_time() };
    wf_encode_started(&out, &m);
    zy_send(zy.control, WF_STARTED, &out);
}

bool zy_given_up(void) {
    struct pollfd p = { .fd = zy.control, .events = POLLRDHUP };
    return zy.control < 0 || (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP)));
}
