/* What messages imply: descriptor counts, single strings, socket names. */
#include "wire/wire.h"

#include "base/err.h"
#include "base/hash.h"
#include <string.h>

int wf_request_nfds(enum wf_type type, const struct wf_request *r) {
    switch (type) {
    case WF_RUN:
        return (int)((r->stdio & 1) + (r->stdio >> 1 & 1) + (r->stdio >> 2 & 1) + 1 +
                     r->fdnums.size / 4);
    case WF_STARTED:
        return WF_STARTED_FDS;
    case WF_SPAWN:
    case WF_TERMINAL:
    case WF_KEEPER:
        return 1;
    case WF_WARM:
    case WF_UNSUITABLE:
    case WF_EXITED:
    case WF_STATUS:
    case WF_STOP:
    case WF_REPLY:
    case WF_READY:
    case WF_FAILED:
    case WF_RETIRE:
    case WF_ASK:
    case WF_ANSWER:
    case WF_ADOPT:
    case WF_NOTE:
    case WF_STATS:
    case WF_GONE:
    case WF_BOUNDS:
        return 0;
    }
    return -1;
}

const char *wf_request_string(const struct wf_request *r, uint32_t index) {
    const uint8_t *at = r->strings.data, *end = at + r->strings.size;
    for (; at < end; index--) {
        if (index == 0)
            return (const char *)at;
        at = (const uint8_t *)memchr(at, '\0', (size_t)(end - at)) + 1;
    }
    return NULL;
}

void wf_route_name(const uint8_t key[WF_KEY_SIZE], unsigned variant, bool control,
                   char ret_name[48]) {
    wf_hash_hex(key, ret_name);
    wf_fmt(ret_name + 32, 16, ".%u%s", variant, control ? ".ctl" : "");
}
