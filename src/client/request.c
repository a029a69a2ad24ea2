#include "client/request.h"

#include "base/dirent.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/terminal.h"
#include "channel/channel.h"
#include "client/bounds.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIELDS_ROOM                                                                                \
    16384 /* all of a request but its strings: bounded by paths, names, descriptors and cpus */
#define TABLE_SMALL 64  /* size of a descriptor table that never held more */
#define TABLE_LARGE 256 /* the same for children of bash, which keeps number 255 */
#define TABLE_SELECT 1024

static bool inheritable(int fd) {
    int flags = fcntl(fd, F_GETFD);
    return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

static int add_fd(struct wf_collected *c, int fd, int number, struct wf_err *err) {
    uint32_t extra = c->request.fdnums.size / 4, value = (uint32_t)number;
    if (extra >= WF_MAX_FDS - 4) {
        wf_err_msg(err, "more than %d inherited descriptors", WF_MAX_FDS - 4);
        return 1;
    }
    for (int i = 0; i < 4; i++)
        c->fdnums[4 * extra + (uint32_t)i] = (uint8_t)(value >> (8 * i));
    c->request.fdnums.size += 4;
    c->fds[c->nfds++] = fd;
    return 0;
}

static int add_listed(struct wf_collected *c, const char *name, int dir, struct wf_err *err) {
    int fd = 0;
    for (; *name != '\0'; name++) {
        if (*name < '0' || *name > '9') /* "." and ".." */
            return 0;
        fd = fd * 10 + (*name - '0');
    }
    return fd > 2 && fd != dir && fd != c->cwd && inheritable(fd) ? add_fd(c, fd, fd, err) : 0;
}

static int list_in_proc(struct wf_collected *c, struct wf_err *err) {
    _Alignas(8) char room[2048];
    int result = 0;
    WF_AUTO_FD dir = openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return wf_err_sys(err, "open", "/proc/self/fd");
    for (;;) {
        long size = syscall(SYS_getdents64, dir, room, sizeof room);
        if (size < 0)
            return wf_err_sys(err, "getdents64", "/proc/self/fd");
        if (size == 0)
            return 0;
        for (long at = 0; at < size;) {
            const struct wf_dirent *entry = (const struct wf_dirent *)(room + at);
            if ((result = add_listed(c, entry->name, dir, err)) != 0)
                return result;
            at += entry->size;
        }
    }
}

/* Marks the closed descriptors from 3 to `end` in `items`, if there can be none above, without
 * /proc, where the first look costs a new process 13 us and the list as much. select() ignores bits
 * beyond the size of the descriptor table and fails for others whose descriptor is closed: so it
 * tells whether the table ends at `end`. If it does not, all from there up would have to be open,
 * `end` itself too. poll() then marks each closed one up to there. */
static bool mark_closed(int end, struct pollfd items[TABLE_LARGE - 3 + 1]) {
    static const int64_t no_wait[2] = { 0, 0 };
    uint64_t bits[TABLE_SELECT / 64], count = (uint64_t)end - 3 + 1;
    for (int i = 0; i < TABLE_SELECT / 64; i++)
        bits[i] = i < end / 64 ? 0 : ~0ull;
    if (syscall(SYS_pselect6, TABLE_SELECT, bits, NULL, NULL, no_wait, NULL) != 0)
        return false;
    for (uint64_t i = 0; i < count; i++)
        items[i] = (struct pollfd){ .fd = 3 + (int)i };
    return poll(items, count, 0) >= 0 && items[count - 1].revents == POLLNVAL;
}

/* To poll() and select() an O_PATH descriptor is closed. `own`: our connection; `alone`: we have
 * nothing else open that is not inherited, so that counting will do, later. */
static int list_inherited(struct wf_collected *c, int own, bool alone, struct wf_err *err) {
    struct pollfd items[TABLE_LARGE - 3 + 1];
    int result = 0;
    int end = TABLE_SMALL;
    if (!mark_closed(end, items) && !mark_closed(end = TABLE_LARGE, items))
        return list_in_proc(c, err);
    for (struct pollfd *i = items; i->fd < end && result == 0; i++)
        if ((i->revents != POLLNVAL || !alone) && i->fd != own && inheritable(i->fd))
            result = add_fd(c, i->fd, i->fd, err);
    if (alone)
        c->open = c->nfds + (own >= 0); /* with the working directory that is about to be */
    return result;
}

/* The process's own descriptors. */
static int collect_own_fds(struct wf_collected *c, int connection, bool alone, struct wf_err *err) {
    for (int fd = 0; fd < 3; fd++)
        if (inheritable(fd)) {
            c->request.stdio |= 1u << fd;
            c->fds[c->nfds++] = fd;
        }
    c->fds[c->nfds++] = -1; /* the working directory, opened later */
    return list_inherited(c, connection, alone, err);
}

static int collect_given_fds(struct wf_collected *c, const struct wf_overrides *over,
                             struct wf_err *err) {
    for (int number = 0; number < 3; number++)
        for (unsigned i = 0; i < over->nfds; i++)
            if (over->fdnums[i] == number && over->fds[i] >= 0 &&
                !(c->request.stdio & 1u << number)) {
                c->request.stdio |= 1u << number;
                c->fds[c->nfds++] = over->fds[i];
            }
    c->fds[c->nfds++] = -1;
    for (unsigned i = 0; i < over->nfds; i++)
        if (over->fdnums[i] > 2 && over->fds[i] >= 0) {
            int result = add_fd(c, over->fds[i], over->fdnums[i], err);
            if (result != 0)
                return result;
        }
    return 0;
}

static int collect_cwd(struct wf_collected *c, const struct wf_overrides *over,
                       struct wf_err *err) {
    unsigned at = 0;
    while (c->fds[at] != -1)
        at++;
    if (over->cwd >= 0) {
        c->fds[at] = over->cwd;
        return 0;
    }
    c->cwd = openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (c->cwd < 0)
        return wf_err_sys(err, "open", ".");
    c->fds[at] = c->cwd;
    return 0;
}

/* Whether the strings lie one after the other, as the kernel laid them out on the initial stack. */
static bool contiguous(const struct wf_context *ctx, size_t *ret_size) {
    const char *start = ctx->argv[0], *at = start;
    for (uint32_t i = 0; i < ctx->argc; i++, at += strlen(at) + 1)
        if (ctx->argv[i] != at)
            return false;
    for (uint32_t i = 0; i < ctx->envc; i++, at += strlen(at) + 1)
        if (ctx->envp[i] != at)
            return false;
    *ret_size = (size_t)(at - start);
    return true;
}

static size_t strings_copy(char *to, uint32_t count, char *const *list) {
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t size = strlen(list[i]) + 1;
        if (to != NULL)
            memcpy(to + total, list[i], size);
        total += size;
    }
    return total;
}

static int collect_strings(const struct wf_context *ctx, struct wf_collected *c,
                           struct wf_err *err) {
    const char *data = ctx->argv[0];
    size_t size;
    if (!contiguous(ctx, &size)) {
        size_t args = strings_copy(NULL, ctx->argc, ctx->argv);
        size = args + strings_copy(NULL, ctx->envc, ctx->envp);
        char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED)
            return wf_err_sys(err, "mmap", "arguments and environment");
        strings_copy(map, ctx->argc, ctx->argv);
        strings_copy(map + args, ctx->envc, ctx->envp);
        c->map = map;
        c->map_size = size;
        data = map;
    }
    if (size > WF_MAX_PAYLOAD - FIELDS_ROOM) {
        wf_err_msg(err, "arguments and environment of %zu bytes", size);
        return 1;
    }
    c->request.strings = (struct wf_span){ (const uint8_t *)data, (uint32_t)size };
    return 0;
}

/* A program on stdin that is a terminal is the interactive interpreter; without stdin there is no
 * program. */
static int check_stdin(const struct wf_collected *c, struct wf_err *err) {
    struct {
        uint32_t flags[4];
        uint8_t rest[48];
    } terminal;
    if (c->request.mode != WF_MODE_STDIN)
        return 0;
    if ((c->request.stdio & 1) == 0) {
        wf_err_msg(err, "no program: stdin is closed");
        return 1;
    }
    if (ioctl(c->fds[0], 0x5401 /* TCGETS */, &terminal) == 0) {
        wf_err_msg(err, "the interactive interpreter");
        return 1;
    }
    return 0;
}

/* What the program may do in a session, and which of 0, 1 and 2 are the controlling terminal of
 * this process, which only that one answers. One whose background jobs may not write (stty tostop)
 * must be the program's from the start. */
static unsigned terminal_flags(void) {
    unsigned flags = 0, master;
    int session, self = getpid();
    if (syscall(SYS_getpgid, 0) == self)
        flags |= WF_F_LEADS_GROUP;
    if (syscall(SYS_getsid, 0) == self)
        flags |= WF_F_LEADS_SESSION;
    struct wf_modes modes;
    for (int fd = 0; fd < 3; fd++)
        if (ioctl(fd, WF_TTY_SESSION, &session) == 0 && ioctl(fd, WF_TTY_NUMBER, &master) < 0)
            flags |= (unsigned)WF_F_TERMINAL_0 << fd;
    for (int fd = 0; fd < 3; fd++)
        if ((flags & (unsigned)WF_F_TERMINAL_0 << fd) && ioctl(fd, WF_TTY_MODES, &modes) == 0 &&
            (modes.local & WF_LOCAL_STOP_OUTPUT))
            flags |= WF_F_TERMINAL_NOW;
    return flags;
}

static int collect(const struct wf_context *ctx, const struct wf_overrides *over, int connection,
                   struct wf_collected *c, struct wf_err *err) {
    int result;
    if ((result = over->fds != NULL ? collect_given_fds(c, over, err)
                                    : collect_own_fds(c, connection, over->notices, err)) != 0 ||
        (result = check_stdin(c, err)) != 0 ||
        (result = wf_bounds_check(&c->request.marks.filters, err)) != 0 ||
        (over->notices && (result = wf_bounds_check_past(ctx->envp, err)) != 0) ||
        (result = collect_strings(ctx, c, err)) != 0)
        return result;
    if (over->umask >= 0) {
        c->request.umask = (uint32_t)over->umask;
    } else {
        c->request.umask = (uint32_t)umask(0);
        umask((mode_t)c->request.umask);
    }
    return collect_cwd(c, over, err);
}

int wf_request_collect(const struct wf_context *ctx, const struct wf_overrides *over,
                       int connection, struct wf_collected *ret, struct wf_err *err) {
    const struct wf_command *command = &ctx->command;
    struct wf_request *r = &ret->request;
    ret->flags = over->notices ? WF_F_NOTICES | terminal_flags() : 0;
    ret->flags |= over->waits ? WF_F_WAIT : 0;
    ret->nfds = ret->open = 0;
    ret->cwd = -1;
    ret->map = NULL;
    memset(r, 0, sizeof *r);
    memcpy(r->key, ctx->key, sizeof r->key);
    memcpy(r->base_key, ctx->base_key, sizeof r->base_key);
    r->place = ctx->place;
    r->sig_blocked = over->blocked;
    r->pid = (uint32_t)getpid();
    r->mode = command->mode;
    r->target = command->target;
    r->target_offset = command->target_offset;
    r->options = command->options;
    r->python = (struct wf_span){ (const uint8_t *)ctx->python, (uint32_t)strlen(ctx->python) };
    r->zygote = ctx->zygote;
    r->preload = ctx->preload;
    r->init = ctx->init;
    r->fdnums = (struct wf_span){ ret->fdnums, 0 };
    r->argc = ctx->argc;
    r->envc = ctx->envc;
    int result = collect(ctx, over, connection, ret, err);
    if (result != 0)
        wf_request_done(ret);
    return result;
}

void wf_request_done(struct wf_collected *c) {
    for (unsigned i = 0; c->cwd >= 0 && i < c->nfds; i++)
        if (c->fds[i] == c->cwd)
            c->fds[i] = -1;
    wf_close(&c->cwd);
    if (c->map != NULL)
        munmap(c->map, c->map_size);
    c->map = NULL;
}

static void make_base(struct wf_request *r) {
    memcpy(r->key, r->base_key, sizeof r->key);
    r->zygote.size = r->preload.size = r->init.size = 0;
}

int wf_request_send_run(int fd, struct wf_collected *c, bool with_preload, struct wf_err *err) {
    uint8_t room[FIELDS_ROOM];
    struct wf_buf fields;
    struct wf_request r = c->request;
    if (!with_preload)
        make_base(&r);
    r.bounded = false;
    wf_buf_init_fixed(&fields, room, sizeof room);
    if (!wf_encode_request(&fields, &r))
        return wf_err_msg(err, "request fields do not fit into %d bytes", FIELDS_ROOM);
    const struct iovec iov[2] = { { room, fields.size },
                                  { (void *)r.strings.data, r.strings.size } };
    return wf_channel_send(fd, WF_RUN, c->flags, iov, 2, c->fds, c->nfds, err);
}

/* More open than was seen. Where the kernel (before 6.2) does not count, each number is tried. */
static bool has_unseen(const struct wf_collected *c) {
    struct stat st;
    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
        return (uint64_t)st.st_size != c->open;
    unsigned count = 0;
    for (int fd = 0; fd <= TABLE_LARGE; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count != c->open;
}

/* Record locks (fcntl) are a process's, and an exec keeps them; those of lockf() as well. */
static bool holds_record_lock(const struct wf_collected *c) {
    char path[40], text[4096];
    struct stat st;
    for (unsigned i = 0; i < c->nfds; i++) {
        if (c->fds[i] < 0 || c->fds[i] == c->cwd || fstat(c->fds[i], &st) < 0 ||
            !S_ISREG(st.st_mode))
            continue;
        wf_fmt(path, sizeof path, "/proc/self/fdinfo/%d", c->fds[i]);
        wf_read_text(AT_FDCWD, path, text, sizeof text);
        if (strstr(text, ": POSIX ") != NULL)
            return true;
    }
    return false;
}

/* In /proc the first look by a new process takes 13 us, so this comes where the worker has its
 * hands full already. */
int wf_request_bound(struct wf_collected *c, int connection, struct wf_err *err) {
    if (c->request.bounded)
        return 0;
    if ((c->flags & WF_F_NOTICES) && holds_record_lock(c))
        return wf_err_msg(err, "a record lock is held (fcntl)");
    if (c->open > 0 && connection >= 0 && has_unseen(c))
        return wf_err_msg(err, "a descriptor is inherited that cannot be read or written (O_PATH)");
    return wf_bounds_collect(&c->request, connection, c->cpus, err);
}

int wf_request_send_bounds(int fd, struct wf_collected *c, struct wf_err *err) {
    uint8_t room[WF_BOUNDS_MAX];
    struct wf_buf bounds;
    wf_buf_init_fixed(&bounds, room, sizeof room);
    wf_encode_bounds(&bounds, &c->request);
    const struct iovec part = { room, bounds.size };
    return wf_channel_send(fd, WF_BOUNDS, 0, &part, 1, NULL, 0, err);
}

void wf_request_name_directory(struct wf_collected *c) {
    char link[40];
    unsigned at = (unsigned)__builtin_popcount(c->request.stdio);
    wf_fmt(link, sizeof link, "/proc/self/fd/%d", c->fds[at]);
    ssize_t size = readlink(link, c->directory, sizeof c->directory - 1);
    c->request.directory.data = (const uint8_t *)c->directory;
    c->request.directory.size = size > 0 && c->directory[0] == '/' ? (uint32_t)size : 0;
}

int wf_request_send_warm(int fd, const struct wf_context *ctx, struct wf_collected *c,
                         bool with_preload, unsigned flags, struct wf_err *err) {
    uint8_t room[FIELDS_ROOM];
    struct wf_buf fields;
    struct wf_request r = c->request;
    const struct wf_command *command = &ctx->command;
    char apart[3] = { '\0', '-', command->mode == WF_MODE_MODULE ? 'm' : 'c' };
    const uint8_t *strings = r.strings.data;
    size_t head = r.strings.size, cut = 0;
    if (!with_preload)
        make_base(&r);
    r.stdio = 0;
    r.fdnums.size = 0;
    if (command->glued > 0) { /* "-Icpass" becomes "-I", "-cpass" */
        head = strings_copy(NULL, command->options + 1, ctx->argv) + command->glued;
        cut = 1;
        r.strings.size += sizeof apart - cut;
        r.argc++;
        r.options++;
        r.target++;
        r.target_offset = r.target_offset > 0 ? 2 : 0;
    }
    wf_buf_init_fixed(&fields, room, sizeof room);
    if (!wf_encode_request(&fields, &r))
        return wf_err_msg(err, "request fields do not fit into %d bytes", FIELDS_ROOM);
    const struct iovec iov[4] = {
        { room, fields.size },
        { (void *)strings, head },
        { apart, cut > 0 ? sizeof apart : 0 },
        { (void *)(strings + head + cut), c->request.strings.size - head - cut },
    };
    return wf_channel_send(fd, WF_WARM, flags, iov, 4, NULL, 0, err);
}
