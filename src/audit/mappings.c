/* Memory that the process and its children would both write to. */
#include "audit/probe.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Linux 6.11; <linux/fs.h> may be older. */
struct map_query {
    uint64_t size, flags, address;
    uint64_t start, end, vma_flags, page_size, offset, inode;
    uint32_t major, minor, name_size, build_id_size;
    uint64_t name, build_id;
};
#define MAP_QUERY _IOWR(0x66 /* 'f', as procfs uses it */, 17, struct map_query)
enum { QUERY_WRITABLE = 0x02, QUERY_SHARED = 0x08, QUERY_NEXT = 0x10 };

static void say(const struct wa_sink *sink, uint64_t from, uint64_t end, const char *name) {
    struct wa_fact fact = {
        .kind = WA_SHARED, .name = name, .detail = "", .from = from, .size = end - from
    };
    sink->each(sink->arg, &fact);
}

int wa_mappings_query(const struct wa_sink *sink, int fd) {
    char name[512];
    uint64_t at = 0;
    for (;;) {
        struct map_query q = { .size = sizeof q,
                               .flags = QUERY_WRITABLE | QUERY_SHARED | QUERY_NEXT,
                               .address = at,
                               .name_size = sizeof name,
                               .name = (uint64_t)(uintptr_t)name };
        name[0] = '\0';
        int done = ioctl(fd, MAP_QUERY, &q);
        if (done < 0 && errno == ENAMETOOLONG) {
            q.name_size = 0;
            q.name = 0;
            done = ioctl(fd, MAP_QUERY, &q);
        }
        if (done < 0)
            return errno == ENOENT ? 0 : 1;
        say(sink, q.start, q.end, name);
        at = q.end;
    }
}

/* "7f01-7f02 rw-s 00000000 00:01 123   /dev/zero (deleted)" */
static void parse_line(const struct wa_sink *sink, char *line) {
    char *at;
    uint64_t from = strtoull(line, &at, 16);
    uint64_t end = *at == '-' ? strtoull(at + 1, &at, 16) : 0;
    if (*at != ' ' || at[2] != 'w' || at[4] != 's')
        return;
    char *name = at;
    for (int field = 0; field < 4 && name != NULL; field++) /* flags, offset, device, inode */
        name = strchr(name + 1, ' ');
    say(sink, from, end, name ? name + strspn(name, " ") : "");
}

int wa_mappings_text(const struct wa_sink *sink, int fd, struct wf_err *err) {
    char room[16384];
    size_t kept = 0;
    for (;;) {
        ssize_t got = read(fd, room + kept, sizeof room - 1 - kept);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return wf_err_sys(err, "read", "/proc/self/maps");
        if (got == 0)
            return 0;
        size_t size = kept + (size_t)got, at = 0;
        room[size] = '\0';
        for (char *end; (end = memchr(room + at, '\n', size - at)) != NULL;) {
            *end = '\0';
            parse_line(sink, room + at);
            at = (size_t)(end - room) + 1;
        }
        kept = size - at;
        memmove(room, room + at, kept);
        if (kept == sizeof room - 1)
            return wf_err_msg(err, "/proc/self/maps: a line of more than %zu bytes", kept);
    }
}

int wa_mappings(const struct wa_sink *sink, struct wf_err *err) {
    WF_AUTO_FD fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return wf_err_sys(err, "open", "/proc/self/maps");
    return wa_mappings_query(sink, fd) == 0 ? 0 : wa_mappings_text(sink, fd, err);
}
