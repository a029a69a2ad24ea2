/* _observe.so: preloaded into a zygote from its very start, it notes what warming up depended on:
 * which environment variables C code asked for, which files were read or looked at
 * (observe_look.c), whether something was written, whether the working directory was asked for,
 * what generators were seeded with. The zygote serves only while all of that is as it was.
 * observe_terminal.c is its other half. Depends on libc alone.
 *
 * Strings are noted once each. When a table is full `wf_observe_full` is set and the zygote refuses
 * to serve: it must not guess. In workers nothing is recorded, and every function is its original.
 */
#undef _FILE_OFFSET_BITS /* it would make open another name for open64; both are defined here */
#include "zygote/observe.h"
#include "zygote/observe_note.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define SLOTS (1u << 16)

struct table {
    char text[4u << 20];  /* strings, each with its NUL; pages that are not used cost nothing */
    unsigned slot[SLOTS]; /* 1 + offset into text */
    size_t used;
};

char *getenv(
    const char *name); /* declared with attributes that a definition must repeat, in <stdlib.h> */
char *secure_getenv(const char *name);
/* src/zygote/inputs.c looks these up. */
EXPORT size_t wf_observe_strings(int kind, const char **ret_strings);
EXPORT void wf_observe_record(int on);
EXPORT size_t wf_observe_seed(unsigned index, const void **ret_data);
EXPORT int wf_observe_full;
EXPORT atomic_uint wf_observe_cwd;     /* while recording */
EXPORT atomic_uint wf_observe_printed; /* of write, to stdout or stderr */

static struct table tables[OBSERVED_KINDS];
static atomic_int recording = 1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
extern char **environ;

EXPORT size_t wf_observe_strings(int kind, const char **ret_strings) {
    *ret_strings = tables[kind].text;
    return tables[kind].used;
}

EXPORT void wf_observe_record(int on) { atomic_store(&recording, on); }

bool wf_observe_is_recording(void) {
    return atomic_load_explicit(&recording, memory_order_relaxed);
}

void wf_observe_note(int kind, const char *text) {
    struct table *t = &tables[kind];
    size_t size = strlen(text) + 1;
    unsigned at = 2166136261u;
    if (size == 1)
        return;
    for (const char *p = text; *p; p++)
        at = (at ^ (unsigned char)*p) * 16777619u;
    pthread_mutex_lock(&lock);
    unsigned tries = 0;
    while (t->slot[at %= SLOTS] != 0 && strcmp(t->text + t->slot[at] - 1, text) != 0 &&
           tries++ < SLOTS)
        at++;
    if (t->slot[at] == 0 && t->used + size <= sizeof t->text) {
        memcpy(t->text + t->used, text, size);
        t->slot[at] = (unsigned)t->used + 1;
        t->used += size;
    } else if (t->slot[at] == 0 || tries > SLOTS) {
        wf_observe_full = 1;
    }
    pthread_mutex_unlock(&lock);
}

/* Not forwarded with dlsym: getenv is called before constructors have run, and its work is four
 * lines. */
static char *find(const char *name) {
    size_t size = strlen(name);
    if (wf_observe_is_recording())
        wf_observe_note(OBSERVED_VARIABLES, name);
    if (environ == NULL || size == 0)
        return NULL;
    for (char **e = environ; *e != NULL; e++)
        if (strncmp(*e, name, size) == 0 && (*e)[size] == '=')
            return *e + size + 1;
    return NULL;
}

EXPORT char *getenv(const char *name) { return find(name); }

EXPORT char *secure_getenv(const char *name) {
    return find(name); /* a zygote is never set-uid: the kernel drops LD_PRELOAD then */
}

/* The next definition of a function: libc's, or that of another preloaded library. */
#define NEXT(name) ((__typeof__(&name))next(#name))

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

EXPORT char *getcwd(char *buffer, size_t size) {
    static __typeof__(&getcwd) original;
    if (original == NULL)
        original = NEXT(getcwd);
    if (wf_observe_is_recording())
        atomic_fetch_add(&wf_observe_cwd, 1);
    return original(buffer, size);
}

static __typeof__(&write) original_write;

/* Ahead, because a signal handler may be the first that writes. */
__attribute__((constructor)) static void find_write(void) { original_write = NEXT(write); }

EXPORT ssize_t write(int fd, const void *data, size_t size) {
    if (wf_observe_is_recording() && (fd == 1 || fd == 2))
        atomic_fetch_add(&wf_observe_printed, 1);
    return original_write ? original_write(fd, data, size) : syscall(SYS_write, fd, data, size);
}

/* What the system was asked for to seed a random number generator: random.seed() asks for 2496
 * bytes, numpy.random.SeedSequence() for 16. Which generators hold what came of that is seen
 * later (warmup.py). */
#define SEEDS 256
#define SEED_SMALL 16
#define SEED_LARGE 2496

static struct {
    unsigned count;
    struct {
        size_t size;
        unsigned char data[SEED_LARGE];
    } seed[SEEDS]; /* pages that are not used cost nothing */
} seeds;

EXPORT size_t wf_observe_seed(unsigned index, const void **ret_data) {
    if (seeds.count > SEEDS || index >= seeds.count) /* too many to know them all */
        return 0;
    *ret_data = seeds.seed[index].data;
    return seeds.seed[index].size;
}

EXPORT ssize_t getrandom(void *data, size_t size, unsigned flags) {
    static __typeof__(&getrandom) original;
    if (original == NULL)
        original = NEXT(getrandom);
    ssize_t got = original ? original(data, size, flags)
                           : syscall(SYS_getrandom, data, size, flags);
    if (wf_observe_is_recording() && got == (ssize_t)size &&
        (size == SEED_SMALL || size == SEED_LARGE)) {
        pthread_mutex_lock(&lock);
        unsigned at = seeds.count++ % SEEDS;
        seeds.seed[at].size = size;
        memcpy(seeds.seed[at].data, data, size);
        pthread_mutex_unlock(&lock);
    }
    return got;
}

/* Caches of compiled code are neither input nor effect: python checks them against their source. */
static void note_open(int dir, const char *path, int writes, bool opened) {
    char room[PATH_MAX];
    int kept = errno;
    if (path == NULL || strstr(path, "__pycache__/") != NULL || strncmp(path, "/dev/", 5) == 0)
        return;
    if (path[0] != '/')
        wf_observe_look(dir, path, opened);
    path = wf_observe_absolute(dir, path, room);
    if (path != NULL)
        wf_observe_note(writes ? OBSERVED_WRITTEN : OBSERVED_FILES, path);
    errno = kept;
}

/* Which file is to be opened: a terminal may have another one in its place (terminal.c). */
static const char *which(const char *path) {
    if (wf_observe_terminal == NULL || path == NULL || strncmp(path, "/dev/", 5) != 0)
        return path;
    return wf_observe_terminal->open(path);
}

static int after_open(int dir, const char *path, int flags, int fd) {
    if (wf_observe_is_recording() && (flags & (O_DIRECTORY | O_PATH)))
        wf_observe_look(dir, path, fd >= 0);
    else if (wf_observe_is_recording())
        note_open(dir, path, (flags & O_ACCMODE) != O_RDONLY, fd >= 0);
    return fd;
}

#define OPEN(name)                                                                                 \
    EXPORT int name(const char *path, int flags, ...) {                                            \
        static __typeof__(&name) original;                                                         \
        mode_t mode = 0;                                                                           \
        if (original == NULL)                                                                      \
            original = NEXT(name);                                                                 \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                     \
            va_list args;                                                                          \
            va_start(args, flags);                                                                 \
            mode = va_arg(args, mode_t);                                                           \
            va_end(args);                                                                          \
        }                                                                                          \
        return after_open(AT_FDCWD, path, flags, original(which(path), flags, mode));              \
    }

#define OPENAT(name)                                                                               \
    EXPORT int name(int dir, const char *path, int flags, ...) {                                   \
        static __typeof__(&name) original;                                                         \
        mode_t mode = 0;                                                                           \
        if (original == NULL)                                                                      \
            original = NEXT(name);                                                                 \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                     \
            va_list args;                                                                          \
            va_start(args, flags);                                                                 \
            mode = va_arg(args, mode_t);                                                           \
            va_end(args);                                                                          \
        }                                                                                          \
        return after_open(dir, path, flags, original(dir, which(path), flags, mode));              \
    }

#define FOPEN(name)                                                                                \
    EXPORT FILE *name(const char *path, const char *mode) {                                        \
        static __typeof__(&name) original;                                                         \
        if (original == NULL)                                                                      \
            original = NEXT(name);                                                                 \
        FILE *file = original(which(path), mode);                                                  \
        if (wf_observe_is_recording())                                                             \
            note_open(AT_FDCWD, path, mode[0] != 'r' || strchr(mode, '+') != NULL, file != NULL);  \
        return file;                                                                               \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)
