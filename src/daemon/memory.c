/* How big the zygotes are, and how big they may be. */
#include "daemon/daemon.h"

#include "base/io.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned long field(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at ? strtoul(at + strlen(name), NULL, 10) : 0;
}

void wd_measure(struct daemon *d) {
    d->measured_us = wf_now_us();
    for (struct wd_zygote *z = d->zygotes; z; z = z->next) {
        char path[48], *text;
        size_t size;
        if (z->pid <= 0 || (z->state != ZS_READY && z->state != ZS_RETIRING))
            continue;
        wf_fmt(path, sizeof path, "/proc/%d/smaps_rollup", (int)z->pid);
        if (wf_read_file(AT_FDCWD, path, 16384, &text, &size) < 0)
            continue; /* gone, or a kernel without: the last figure stands */
        z->pss_kb = field(text, "\nPss:");
        z->rss_kb = field(text, "\nRss:");
        free(text);
    }
}

/* The least of the machine's memory and what our cgroups allow; 0: no limit. */
unsigned long wd_memory_limit_kb(unsigned percent) {
    char *text, path[4096];
    size_t size;
    unsigned long long total = 0;
    if (percent == 0)
        return 0;
    if (wf_read_file(AT_FDCWD, "/proc/meminfo", 65536, &text, &size) == 0) {
        total = field(text, "MemTotal:");
        free(text);
    }
    if (wf_read_file(AT_FDCWD, "/proc/self/cgroup", 65536, &text, &size) < 0)
        return (unsigned long)(total * percent / 100);
    const char *own = strstr(text, "0::/");
    wf_fmt(path, sizeof path, "/sys/fs/cgroup%.*s", own ? (int)strcspn(own + 3, "\n") : 0,
           own ? own + 3 : "");
    free(text);
    /* Up to the root of the hierarchy: each level limits. */
    for (char *slash;
         (slash = strrchr(path, '/')) && slash - path >= (long)strlen("/sys/fs/cgroup");
         *slash = '\0') {
        char file[4200];
        wf_fmt(file, sizeof file, "%s/memory.max", path);
        if (wf_read_file(AT_FDCWD, file, 100, &text, &size) < 0)
            continue;
        unsigned long long limit = strtoull(text, NULL, 10) / 1024; /* "max" gives 0 */
        free(text);
        if (limit > 0 && limit < total)
            total = limit;
    }
    return (unsigned long)(total * percent / 100);
}

/* The READY one whose last run is longest ago; of one key only, or none of one key. */
struct wd_zygote *wd_oldest(struct daemon *d, const uint8_t *only_key, const uint8_t *spare_key) {
    struct wd_zygote *oldest = NULL;
    for (struct wd_zygote *z = d->zygotes; z; z = z->next) {
        if (z->state != ZS_READY || (only_key && memcmp(z->key, only_key, WF_KEY_SIZE) != 0) ||
            (spare_key && memcmp(z->key, spare_key, WF_KEY_SIZE) == 0))
            continue;
        if (!oldest || z->used_us < oldest->used_us)
            oldest = z;
    }
    return oldest;
}

unsigned long wd_running(const struct daemon *d, const char *name) {
    unsigned long count = 0;
    for (const struct wd_zygote *z = d->zygotes; z; z = z->next)
        if (z->state < ZS_FAILED && (!name[0] || strcmp(wd_text(z->name), name) == 0))
            count += z->stats.running;
    return count;
}
