/* The table of probes, and what they share. */
#include "audit/probe.h"

#include "base/cleanup.h"
#include "base/dirent.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
    unsigned probe;
    const char *name;
    int (*run)(const struct wa_sink *sink, struct wf_err *err);
} probes[] = {
    { WA_PROBE_TASKS, "tasks", wa_tasks },
    { WA_PROBE_DESCRIPTORS, "descriptors", wa_descriptors },
    { WA_PROBE_MAPPINGS, "mappings", wa_mappings },
    { WA_PROBE_SIGNALS, "signals", wa_signals },
    { WA_PROBE_TIMERS, "timers", wa_timers },
    { WA_PROBE_CHILDREN, "children", wa_children },
};

void wa_say(const struct wa_sink *sink, enum wa_kind kind, long id, const char *name,
            const char *detail) {
    struct wa_fact fact = { .kind = kind, .id = id, .name = name, .detail = detail };
    sink->each(sink->arg, &fact);
}

const char *wa_probe_name(unsigned probe) {
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
        if (probes[i].probe == probe)
            return probes[i].name;
    return "";
}

void wa_probe(unsigned wanted, wa_each each, void *arg) {
    const struct wa_sink sink = { each, arg };
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        struct wf_err err = { 0 };
        if ((wanted & probes[i].probe) && probes[i].run(&sink, &err) < 0)
            wa_say(&sink, WA_UNSEEN, probes[i].probe, probes[i].name, err.text);
    }
}

static long parse_number(const char *text) {
    long value = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (*text - '0');
    return *text ? -1 : value;
}

int wa_for_each_number(const char *path, int (*each)(void *arg, int dirfd, long number), void *arg,
                       struct wf_err *err) {
    _Alignas(struct wf_dirent) char room[8192];
    WF_AUTO_FD dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return wf_err_sys(err, "open", path);
    for (;;) {
        long got = syscall(SYS_getdents64, dir, room, sizeof room);
        if (got <= 0)
            return got < 0 ? wf_err_sys(err, "getdents64", path) : 0;
        for (long at = 0; at < got;) {
            const struct wf_dirent *d = (const struct wf_dirent *)(room + at);
            long number = d->name[0] == '.' ? -1 : parse_number(d->name);
            at += d->size;
            if (number >= 0 && number != dir && each(arg, dir, number) < 0)
                return 0;
        }
    }
}
