/* Threads of the process, whoever made them, and the library that each waits in. */
#include "audit/probe.h"

#include "base/io.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define STACK_WORDS 2048 /* of a waiting thread, looked through for return addresses */

/* Reads our own memory where it may be gone at any moment: another thread's. */
static size_t peek(uintptr_t from, void *into, size_t size) {
    struct iovec local = { into, size }, remote = { (void *)from, size };
    ssize_t got = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    return got < 0 ? 0 : (size_t)got;
}

/* What only carries a thread, whoever made it, or stands before the C library. */
static bool is_carrier(const char *path) {
    static const char *const names[] = { "libc.so", "libc-",     "libpthread", "ld-linux",
                                         "ld-musl", "libstdc++", "libgcc_s",   "libm.so",
                                         "libasan", "libtsan",   "libubsan",   "_observe.so" };
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(name, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

struct search {
    uintptr_t address;
    bool executable;
    const char *path;
};

static int look_in_object(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size;
    struct search *s = arg;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) &&
            s->address - (info->dlpi_addr + p->p_vaddr) < p->p_memsz) {
            s->executable = true;
            s->path = info->dlpi_name;
            return 1;
        }
    }
    return 0;
}

/* The innermost frame of a waiting thread that is not the C library's: who waits there. Return
 * addresses are found by what they point to, since there is no unwinding without symbols. */
static void find_library(uintptr_t stack, char *ret_path, size_t size) {
    static _Thread_local uintptr_t words[STACK_WORDS];
    size_t got = 0;
    for (size_t part = sizeof words; got == 0 && part >= 512; part /= 2)
        got = peek(stack, words, part); /* the stack may end before that */
    for (size_t i = 0; i < got / sizeof *words; i++) {
        struct search s = { .address = words[i] };
        if (words[i] < 4096)
            continue;
        dl_iterate_phdr(look_in_object, &s);
        /* The vdso has a name without slash; the program itself has none. */
        if (!s.executable || is_carrier(s.path) || (*s.path && !strchr(s.path, '/')))
            continue;
        wf_fmt(ret_path, size, "%s", *s.path ? s.path : "/proc/self/exe");
        return;
    }
}

/* "NUMBER ARGUMENT×6 SP PC", "-1 SP PC", or "running". */
static uintptr_t stack_of(int tasks, long tid) {
    char path[40], text[256];
    wf_fmt(path, sizeof path, "%ld/syscall", tid);
    if (wf_read_text(tasks, path, text, sizeof text) <= 0)
        return 0;
    const char *last = strrchr(text, ' ');
    if (last == NULL)
        return 0;
    while (last > text && last[-1] != ' ')
        last--;
    return (uintptr_t)strtoull(last, NULL, 16);
}

static int look_at(void *arg, int tasks, long tid) {
    const struct wa_sink *sink = arg;
    char path[40], name[64], library[512] = "";
    if (tid == syscall(SYS_gettid))
        return 0;
    wf_fmt(path, sizeof path, "%ld/comm", tid);
    long got = wf_read_text(tasks, path, name, sizeof name);
    if (got < 0 && (errno == ENOENT || errno == ESRCH))
        return 0; /* it has just ended */
    name[strcspn(name, "\n")] = '\0';
    uintptr_t stack = stack_of(tasks, tid);
    if (stack != 0)
        find_library(stack, library, sizeof library);
    if (strcmp(library, "/proc/self/exe") == 0) {
        ssize_t n = readlink("/proc/self/exe", library, sizeof library - 1);
        library[n < 0 ? 0 : n] = '\0';
    }
    wa_say(sink, WA_TASK, tid, name, library);
    return 0;
}

int wa_tasks(const struct wa_sink *sink, struct wf_err *err) {
    return wa_for_each_number("/proc/self/task", look_at, (void *)(uintptr_t)sink, err);
}

/* The C library keeps the thread's id in what a pthread_t points to; where, our own shows. */
pid_t wa_task_of(uintptr_t pthread) {
    enum { WORDS = 1024 };
    int own[WORDS], other;
    pid_t self = (pid_t)syscall(SYS_gettid);
    size_t got = 0;
    for (size_t part = sizeof own; got == 0 && part >= 256; part /= 2)
        got = peek((uintptr_t)pthread_self(), own, part);
    for (size_t i = 0; i < got / sizeof *own; i++) {
        char path[40];
        if (own[i] != self)
            continue;
        if (peek(pthread + i * sizeof *own, &other, sizeof other) != sizeof other || other <= 0)
            return 0;
        wf_fmt(path, sizeof path, "/proc/self/task/%d", other);
        return access(path, F_OK) == 0 ? other : 0;
    }
    return 0;
}
