/* _getenv.so: preloaded into a zygote from its very start, it notes which environment variables C code asks for, so that
 * the zygote serves only callers for whom each of them has the same value. Depends on libc alone.
 *
 * Names are appended to a fixed table, separated by NULs, each once. When the table is full `wf_getenv_full` is set
 * and the zygote refuses to serve: it must not guess. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

char *getenv(const char *name);
char *secure_getenv(const char *name);
EXPORT size_t wf_getenv_names(const char **ret_names);
EXPORT void wf_getenv_record(int on);

static char names[1 << 16];
static size_t used;
static atomic_int recording = 1;
EXPORT int wf_getenv_full;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
extern char **environ;

EXPORT size_t wf_getenv_names(const char **ret_names)
{
    *ret_names = names;
    return used;
}

EXPORT void wf_getenv_record(int on)
{
    atomic_store(&recording, on);
}

static void note(const char *name)
{
    size_t size = strlen(name) + 1;
    if (size == 1)
        return;
    pthread_mutex_lock(&lock);
    size_t at = 0;
    while (at < used && strcmp(names + at, name) != 0)
        at += strlen(names + at) + 1;
    if (at >= used) {
        if (used + size <= sizeof names) {
            memcpy(names + used, name, size);
            used += size;
        } else {
            wf_getenv_full = 1;
        }
    }
    pthread_mutex_unlock(&lock);
}

/* Not forwarded with dlsym: getenv is called before constructors have run, and its work is four lines. */
static char *find(const char *name)
{
    size_t size = strlen(name);
    if (atomic_load_explicit(&recording, memory_order_relaxed))
        note(name);
    if (environ == NULL || size == 0)
        return NULL;
    for (char **e = environ; *e != NULL; e++)
        if (strncmp(*e, name, size) == 0 && (*e)[size] == '=')
            return *e + size + 1;
    return NULL;
}

EXPORT char *getenv(const char *name)
{
    return find(name);
}

EXPORT char *secure_getenv(const char *name)
{
    return find(name); /* a zygote is never set-uid: the kernel drops LD_PRELOAD then */
}
