/* Is anybody waiting for input? Nothing in the kernel tells the holder of a master that, but /proc
 * does, of each thread: the name of the function that it sleeps in. */
#include "client/terminal.h"

#include "base/cleanup.h"
#include "base/dirent.h"
#include "client/keeper.h"
#include "client/text.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int number(const char *text) {
    int value = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (*text - '0');
    return value;
}

/* Fields 3, 5 and 6 of /proc/PID/stat: state, process group, session. */
static bool is_of(int proc, const char *pid, int group, int session) {
    char path[32], text[512];
    wf_fmt(path, sizeof path, "%s/stat", pid);
    if (wf_read_text(proc, path, text, sizeof text) <= 0)
        return false;
    const char *at = strrchr(text, ')'); /* the name may hold anything */
    int values[4] = { 0 };
    if (at == NULL || at[1] != ' ' || at[2] == 'Z')
        return false;
    at += 3;
    for (int i = 0; i < 3 && *at == ' '; i++) {
        values[i] = number(++at);
        while (*at != ' ' && *at != '\0')
            at++;
    }
    return values[1] == group && values[2] == session;
}

struct look {
    int proc, group, session;
    unsigned terminal; /* number of the pty */
    int pid;           /* directory of the process that is being looked at */
};

/* Whether that descriptor of the process is the program's terminal. */
static bool is_terminal(const struct look *look, unsigned fd) {
    char path[32], link[64], name[32];
    wf_fmt(path, sizeof path, "fd/%u", fd);
    ssize_t size = readlinkat(look->pid, path, link, sizeof link - 1);
    if (size < 0)
        return false;
    link[size] = '\0';
    wf_fmt(name, sizeof name, "/dev/pts/%u", look->terminal);
    return strcmp(link, name) == 0 || strcmp(link, WF_DEV_TTY) == 0;
}

static bool any_polled(const struct look *look, uint64_t items, uint64_t count) {
    struct pollfd room[64];
    uint64_t size = (count < 64 ? count : 64) * sizeof *room;
    WF_AUTO_FD memory = openat(look->pid, "mem", O_RDONLY | O_CLOEXEC);
    if (memory < 0 || syscall(SYS_pread64, memory, room, size, items) != (long)size)
        return true;
    for (uint64_t i = 0; i < count && i < 64; i++)
        if (room[i].fd >= 0 && (room[i].events & POLLIN) && is_terminal(look, (unsigned)room[i].fd))
            return true;
    return count > 64;
}

static bool any_selected(const struct look *look, uint64_t count, uint64_t set) {
    uint64_t bits[1024 / 64] = { 0 }, size = (count + 63) / 64 * 8;
    if (set == 0)
        return false;
    WF_AUTO_FD memory = openat(look->pid, "mem", O_RDONLY | O_CLOEXEC);
    if (memory < 0 || size > sizeof bits ||
        syscall(SYS_pread64, memory, bits, size, set) != (long)size)
        return true;
    for (unsigned fd = 0; fd < count; fd++)
        if ((bits[fd / 64] >> (fd % 64) & 1) && is_terminal(look, fd))
            return true;
    return false;
}

/* The watched descriptors of an epoll one are listed, each as "tfd: NUMBER events: …". */
static bool any_watched(const struct look *look, unsigned fd) {
    char path[32], text[4096];
    wf_fmt(path, sizeof path, "fdinfo/%u", fd);
    if (wf_read_text(look->pid, path, text, sizeof text) <= 0)
        return true;
    for (const char *at = text; (at = strstr(at, "tfd:")) != NULL;) {
        for (at += 4; *at == ' '; at++)
            ;
        if (is_terminal(look, (unsigned)number(at)))
            return true;
    }
    return false;
}

/* The number of the call, and the first two of its arguments. */
static bool parse_call(const char *text, uint64_t ret[3]) {
    if (*text < '0' || *text > '9') /* "running", "-1" */
        return false;
    ret[0] = (uint64_t)number(text);
    for (int i = 1; i < 3; i++) {
        text = strstr(text, " 0x");
        if (text == NULL)
            return false;
        ret[i] = 0;
        for (text += 3; (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'f'); text++)
            ret[i] = ret[i] << 4 | (uint64_t)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
    }
    return true;
}

static bool waits_in(const struct look *look, const uint64_t call[3]) {
    switch (call[0]) {
    case SYS_read:
    case SYS_readv:
        return is_terminal(look, (unsigned)call[1]);
#ifdef SYS_poll
    case SYS_poll:
#endif
    case SYS_ppoll:
        return any_polled(look, call[1], call[2]);
#ifdef SYS_select
    case SYS_select:
#endif
    case SYS_pselect6:
        return any_selected(look, call[1], call[2]);
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
#endif
    case SYS_epoll_pwait:
#ifdef SYS_epoll_pwait2
    case SYS_epoll_pwait2:
#endif
        return any_watched(look, (unsigned)call[1]);
    default:
        return false;
    }
}

/* A sleeping thread: in which call? Where that is not for our eyes (another user's process, a
 * security module), in which function of the kernel? wait_woken is what a terminal's read sleeps
 * in. Where nothing is known ("0"), it is waiting. */
static bool sleeps_for_input(const struct look *look, const char *thread) {
    char path[48], text[512];
    uint64_t call[3];
    wf_fmt(path, sizeof path, "task/%s/stat", thread);
    if (wf_read_text(look->pid, path, text, sizeof text) <= 0)
        return false;
    const char *state = strrchr(text, ')');
    if (state == NULL || (state[2] != 'S' && state[2] != 'D'))
        return false;
    wf_fmt(path, sizeof path, "task/%s/syscall", thread);
    if (wf_read_text(look->pid, path, text, sizeof text) > 0)
        return parse_call(text, call) && waits_in(look, call);
    wf_fmt(path, sizeof path, "task/%s/wchan", thread);
    if (wf_read_text(look->pid, path, text, sizeof text) <= 0 || strcmp(text, "0") == 0)
        return true;
    return wf_text_starts(text, "wait_woken") || strstr(text, "n_tty") != NULL ||
           strstr(text, "poll") != NULL || strstr(text, "select") != NULL;
}

/* Calls `each` with the entries of a directory that are numbers, until it returns true. */
static bool any_number(int dir, bool (*each)(void *context, const char *name), void *context) {
    _Alignas(8) char room[4096];
    long size;
    while ((size = syscall(SYS_getdents64, dir, room, sizeof room)) > 0) {
        for (long at = 0; at < size;) {
            const struct wf_dirent *entry = (const struct wf_dirent *)(room + at);
            if (entry->name[0] >= '0' && entry->name[0] <= '9' && each(context, entry->name))
                return true;
            at += entry->size;
        }
    }
    return false;
}

static bool look_at_thread(void *context, const char *name) {
    return sleeps_for_input(context, name);
}

/* The member of the group that belongs to the keeper waits for nothing of ours. */
static bool look_at_process(void *context, const char *name) {
    struct look *look = context;
    char path[32], comm[32];
    if (!is_of(look->proc, name, look->group, look->session))
        return false;
    look->pid = openat(look->proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool found = false;
    if (wf_read_text(look->pid, "comm", comm, sizeof comm) > 0 &&
        strcmp(comm, WF_MEMBER_NAME "\n") != 0) {
        wf_fmt(path, sizeof path, "%s/task", name);
        WF_AUTO_FD tasks = openat(look->proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        found = tasks >= 0 && any_number(tasks, look_at_thread, look);
    }
    wf_close(&look->pid);
    return found;
}

bool wf_readers_wait(const struct wf_terminal *t) {
    struct look look = { .session = (int)t->run->started.pid };
    if (ioctl(t->master, WF_TTY_GROUP, &look.group) < 0 ||
        ioctl(t->master, WF_TTY_NUMBER, &look.terminal) < 0)
        return false;
    look.proc = openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool found = look.proc < 0 || any_number(look.proc, look_at_process, &look);
    wf_close(&look.proc);
    return found;
}
