/* The reading half of the codec: encode.c's mirror image, field by field, then what each field may
 * hold. Reading past the end fails once and for all, so that the values need no check of their own
 * until the message is whole. */
#include "wire/wire.h"

#include "base/rundir.h"
#include <endian.h>
#include <limits.h>
#include <string.h>

#define MAX_PATH 4095u /* PATH_MAX without the NUL */
#define MAX_NAME 255u  /* NAME_MAX */
#define MAX_PRELOAD (64u << 10)
#define MAX_OPTIONS (1u << 20)
#define MAX_VERSION 64u
#define MAX_SIGNAL 64u

struct in {
    const uint8_t *at, *end;
    const char *wrong; /* what is, once something is */
};

static struct in in_init(const uint8_t *data, size_t size) {
    return (struct in){ .at = data, .end = size ? data + size : data };
}

static const uint8_t *take(struct in *in, size_t size) {
    if (in->wrong)
        return NULL;
    if ((size_t)(in->end - in->at) < size) {
        in->wrong = "message ends too early";
        return NULL;
    }
    const uint8_t *from = in->at;
    in->at += size;
    return from;
}

static uint64_t take_little_endian(struct in *in, size_t size) {
    const uint8_t *from = take(in, size);
    uint64_t value = 0;
    if (from)
        memcpy(&value, from, size);
    return le64toh(value);
}

static uint16_t take_u16(struct in *in) { return (uint16_t)take_little_endian(in, 2); }
static uint32_t take_u32(struct in *in) { return (uint32_t)take_little_endian(in, 4); }
static uint64_t take_u64(struct in *in) { return take_little_endian(in, 8); }

static void take_bytes(struct in *in, uint8_t *to, size_t size) {
    const uint8_t *from = take(in, size);
    if (from)
        memcpy(to, from, size);
}

static struct wf_span take_span(struct in *in, uint32_t max, const char *too_long) {
    struct wf_span span = { .size = take_u32(in) };
    if (!in->wrong && span.size > max)
        in->wrong = too_long;
    span.data = take(in, span.size);
    return span;
}

/* The verdict on a message that has been read: NULL when it ended exactly here. */
static const char *finish(const struct in *in) {
    if (in->wrong)
        return in->wrong;
    return in->at == in->end ? NULL : "bytes after the end of the message";
}

static bool has_nul(struct wf_span span) {
    return span.size > 0 && memchr(span.data, '\0', span.size);
}

static bool is_path(struct wf_span span) {
    return span.size > 0 && span.data[0] == '/' && !has_nul(span);
}

/* Of a named zygote: it becomes a file name below the runtime directory. */
static bool is_name(struct wf_span span) {
    return span.size == 0 ||
           (span.data[0] != '.' && !memchr(span.data, '/', span.size) && !has_nul(span));
}

static bool is_pid(uint32_t pid) { return pid > 0 && pid <= INT_MAX; }

static void take_place(struct in *in, struct wf_place *p) {
    for (int i = 0; i < 3; i++)
        p->uid[i] = take_u32(in);
    for (int i = 0; i < 3; i++)
        p->gid[i] = take_u32(in);
    p->groups = take_u64(in);
    p->ns[WF_NS_MNT] = take_u64(in);
    p->root_dev = take_u64(in);
    p->root_ino = take_u64(in);
    for (int i = 0; i < 3; i++)
        p->caps[i] = take_u64(in);
    p->no_new_privs = take_u32(in);
    p->personality = take_u32(in);
}

const char *wf_decode_header(const uint8_t data[WF_HEADER_SIZE], struct wf_header *ret) {
    struct in in = in_init(data, WF_HEADER_SIZE);
    struct wf_header h;
    h.magic = take_u32(&in);
    h.version = take_u16(&in);
    h.type = take_u16(&in);
    h.size = take_u32(&in);
    h.nfds = take_u16(&in);
    h.flags = take_u16(&in);
    bool memfd = h.flags & WF_F_MEMFD;
    if (h.magic != WF_MAGIC)
        return "not a warmfork message";
    if (h.version != WF_PROTOCOL)
        return "another protocol version";
    if (h.type < WF_RUN || h.type > WF_TYPE_LAST)
        return "unknown message type";
    if (h.flags &
        ~(WF_F_MEMFD | WF_F_WAIT | WF_F_NOTICES | WF_F_TERMINAL | WF_F_TERMINAL_NOW | WF_F_LEADS))
        return "unknown flags";
    if (h.size > (memfd ? WF_MAX_PAYLOAD : WF_INLINE_MAX))
        return "payload is too large";
    if (memfd && (h.size == 0 || h.nfds == 0))
        return "memfd is missing";
    if (h.nfds > WF_MAX_FDS + memfd)
        return "too many descriptors";
    *ret = h;
    return NULL;
}

static void take_bounds(struct in *in, struct wf_request *r) {
    for (int i = 0; i < WF_NS_COUNT; i++)
        if (i != WF_NS_MNT)
            r->place.ns[i] = take_u64(in);
    for (int i = 0; i < WF_LIMITS; i++) {
        r->limit[i].soft = take_u64(in);
        r->limit[i].hard = take_u64(in);
    }
    r->sig_ignored = take_u64(in);
    r->nice = (int32_t)take_u32(in);
    r->sched = (int32_t)take_u32(in);
    r->ioprio = (int32_t)take_u32(in);
    r->marks.oom_score_adj = (int32_t)take_u32(in);
    r->marks.loginuid = take_u32(in);
    r->marks.filters = take_u32(in);
    r->cpus = take_span(in, WF_MAX_CPUS_BYTES, "cpus is too long");
    r->bounded = true;
}

static void take_request(struct in *in, struct wf_request *r) {
    take_bytes(in, r->key, WF_KEY_SIZE);
    take_bytes(in, r->base_key, WF_KEY_SIZE);
    take_place(in, &r->place);
    r->sig_blocked = take_u64(in);
    r->umask = take_u32(in);
    r->pid = take_u32(in);
    r->variant = take_u32(in);
    r->stdio = take_u32(in);
    r->mode = take_u32(in);
    r->target = take_u32(in);
    r->target_offset = take_u32(in);
    r->options = take_u32(in);
    r->argc = take_u32(in);
    r->envc = take_u32(in);
    uint32_t bounded = take_u32(in);
    if (!in->wrong && bounded > 1)
        in->wrong = "bounded is neither 0 nor 1";
    if (bounded == 1)
        take_bounds(in, r);
    r->python = take_span(in, MAX_PATH, "python is too long");
    r->zygote = take_span(in, MAX_NAME, "zygote is too long");
    r->preload = take_span(in, MAX_PRELOAD, "preload is too long");
    r->init = take_span(in, MAX_PATH, "init is too long");
    r->directory = take_span(in, MAX_PATH, "directory is too long");
    r->fdnums = take_span(in, WF_MAX_FDS * 4, "fdnums is too long");
    r->strings = take_span(in, WF_MAX_PAYLOAD, "strings is too long");
}

/* argv and envp: as many terminated strings as argc and envc say, and the target among them. One
 * pass. */
static const char *check_strings(const struct wf_request *r) {
    const uint8_t *at = r->strings.data, *end = at + r->strings.size;
    uint64_t expected = (uint64_t)r->argc + r->envc, count = 0;
    size_t target_size = 0;
    for (; at < end; count++) {
        const uint8_t *nul = memchr(at, '\0', (size_t)(end - at));
        if (!nul)
            return "strings does not end with NUL";
        if (count == r->target && r->target < r->argc)
            target_size = (size_t)(nul - at);
        at = nul + 1;
    }
    if (count != expected)
        return "argc and envc do not match strings";
    return r->target_offset <= target_size ? NULL : "target_offset is past the end of its argument";
}

static const char *check_fdnums(const struct wf_request *r) {
    struct in in = in_init(r->fdnums.data, r->fdnums.size);
    if (r->fdnums.size % 4 != 0)
        return "fdnums is not a list of numbers";
    unsigned inherited = r->fdnums.size / 4;
    if (inherited > WF_MAX_FDS - 4) /* beside 0, 1, 2 and the working directory */
        return "fdnums is too long";
    for (unsigned i = 0; i < inherited; i++) {
        uint32_t number = take_u32(&in);
        if (number < 3 || number > INT_MAX)
            return "fdnums holds a number that cannot be inherited";
    }
    return NULL;
}

static const char *check_request(const struct wf_request *r) {
    if (r->mode < WF_MODE_SCRIPT || r->mode > WF_MODE_STDIN)
        return "unknown mode";
    if (r->argc < 1)
        return "argc is zero";
    if (r->target > r->argc || (r->target == r->argc && r->mode != WF_MODE_STDIN))
        return "target is not one of the arguments";
    if (r->options >= r->argc)
        return "options exceeds argc";
    if (r->stdio > 7)
        return "unknown stdio bits";
    if (r->umask > 0777)
        return "umask is out of range";
    if (r->pid > INT_MAX)
        return "pid is out of range";
    if (r->variant >= WF_VARIANTS)
        return "variant is out of range";
    if (!is_path(r->python))
        return "python is not an absolute path";
    if (!is_name(r->zygote))
        return "zygote is not a name";
    if (has_nul(r->preload))
        return "preload holds a NUL";
    if (r->init.size > 0 && !is_path(r->init))
        return "init is not an absolute path";
    if (r->directory.size > 0 && !is_path(r->directory))
        return "directory is not an absolute path";
    const char *wrong = check_fdnums(r);
    return wrong ? wrong : check_strings(r);
}

const char *wf_decode_request(const uint8_t *data, size_t size, struct wf_request *ret) {
    struct in in = in_init(data, size);
    struct wf_request r = { 0 };
    take_request(&in, &r);
    const char *wrong = finish(&in);
    if (!wrong)
        wrong = check_request(&r);
    if (!wrong)
        *ret = r;
    return wrong;
}

const char *wf_decode_bounds(const uint8_t *data, size_t size, struct wf_request *ret) {
    struct in in = in_init(data, size);
    struct wf_request r = *ret;
    take_bounds(&in, &r);
    const char *wrong = finish(&in);
    if (!wrong)
        *ret = r;
    return wrong;
}

const char *wf_decode_started(const uint8_t *data, size_t size, struct wf_started *ret) {
    struct in in = in_init(data, size);
    struct wf_started m;
    m.pid = take_u32(&in);
    m.cookie = take_u64(&in);
    const char *wrong = finish(&in);
    if (!wrong && !is_pid(m.pid))
        wrong = "pid is out of range";
    if (!wrong)
        *ret = m;
    return wrong;
}

static const char *check_exited(const struct wf_exited *m) {
    switch (m->kind) {
    case WF_END_UNKNOWN:
        return m->value == 0 && m->core == 0 ? NULL : "an unknown end has no value";
    case WF_END_EXIT:
        return m->value <= 255 && m->core == 0 ? NULL : "exit code is out of range";
    case WF_END_SIGNAL:
        return m->value >= 1 && m->value <= MAX_SIGNAL && m->core <= 1 ? NULL
                                                                       : "signal is out of range";
    default:
        return "unknown kind of end";
    }
}

const char *wf_decode_exited(const uint8_t *data, size_t size, struct wf_exited *ret) {
    struct in in = in_init(data, size);
    struct wf_exited m;
    m.kind = take_u32(&in);
    m.value = take_u32(&in);
    m.core = take_u32(&in);
    const char *wrong = finish(&in);
    if (!wrong)
        wrong = check_exited(&m);
    if (!wrong)
        *ret = m;
    return wrong;
}

const char *wf_decode_text(const uint8_t *data, size_t size, struct wf_text *ret) {
    struct in in = in_init(data, size);
    struct wf_text m;
    m.code = take_u32(&in);
    m.text = take_span(&in, WF_MAX_TEXT, "text is too long");
    const char *wrong = finish(&in);
    if (!wrong)
        *ret = m;
    return wrong;
}

static const char *check_ready(const struct wf_ready *m) {
    if (!is_pid(m->pid))
        return "pid is out of range";
    if (m->variant >= WF_VARIANTS)
        return "variant is out of range";
    if (!is_name(m->name))
        return "name is not a name";
    if (!is_path(m->python))
        return "python is not an absolute path";
    if (m->options.size > 0 && m->options.data[m->options.size - 1] != '\0')
        return "options does not end with NUL";
    if (has_nul(m->preload))
        return "preload holds a NUL";
    if (m->init.size > 0 && !is_path(m->init))
        return "init is not an absolute path";
    if (m->asked > WF_ASKED_DIRECTORY)
        return "asked is out of range";
    if (m->directory.size > 0 && !is_path(m->directory))
        return "directory is not an absolute path";
    return has_nul(m->version) ? "version holds a NUL" : NULL;
}

const char *wf_decode_ready(const uint8_t *data, size_t size, struct wf_ready *ret) {
    struct in in = in_init(data, size);
    struct wf_ready m;
    m.pid = take_u32(&in);
    m.variant = take_u32(&in);
    m.asked = take_u32(&in);
    take_bytes(&in, m.key, WF_KEY_SIZE);
    m.name = take_span(&in, MAX_NAME, "name is too long");
    m.python = take_span(&in, MAX_PATH, "python is too long");
    m.options = take_span(&in, MAX_OPTIONS, "options is too long");
    m.preload = take_span(&in, MAX_PRELOAD, "preload is too long");
    m.init = take_span(&in, MAX_PATH, "init is too long");
    m.directory = take_span(&in, MAX_PATH, "directory is too long");
    m.version = take_span(&in, MAX_VERSION, "version is too long");
    const char *wrong = finish(&in);
    if (!wrong)
        wrong = check_ready(&m);
    if (!wrong)
        *ret = m;
    return wrong;
}

const char *wf_decode_stats(const uint8_t *data, size_t size, struct wf_stats *ret) {
    struct in in = in_init(data, size);
    struct wf_stats m;
    m.standby = take_u32(&in);
    m.running = take_u32(&in);
    m.served = take_u64(&in);
    m.refused = take_u64(&in);
    m.last_us = take_u64(&in);
    const char *wrong = finish(&in);
    if (!wrong)
        *ret = m;
    return wrong;
}

static const char *check_definition(const struct wf_definition *m) {
    if (!is_name(m->name))
        return "name is not a name";
    if (has_nul(m->preload))
        return "preload holds a NUL";
    return m->init.size == 0 || is_path(m->init) ? NULL : "init is not an absolute path";
}

const char *wf_decode_definition(const uint8_t *data, size_t size, struct wf_definition *ret) {
    struct in in = in_init(data, size);
    struct wf_definition m;
    m.name = take_span(&in, MAX_NAME, "name is too long");
    m.preload = take_span(&in, MAX_PRELOAD, "preload is too long");
    m.init = take_span(&in, MAX_PATH, "init is too long");
    const char *wrong = finish(&in);
    if (!wrong)
        wrong = check_definition(&m);
    if (!wrong)
        *ret = m;
    return wrong;
}
