/* Environment variables that were consulted while warming up, and the values they had. */
#include "zygote/zygote.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct input {
    char *name;
    size_t size;
    char *value; /* NULL: was not set */
};

static struct {
    struct input *table; /* open addressing, a power of two */
    unsigned room, count, present;
    bool all; /* the environment was looked at as a whole */
} inputs;

static unsigned hash_name(const char *name, size_t size) {
    unsigned h = 2166136261u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)name[i]) * 16777619u;
    return h;
}

static struct input *slot_of(const char *name, size_t size) {
    unsigned at = hash_name(name, size) & (inputs.room - 1);
    while (inputs.table[at].name != NULL &&
           (inputs.table[at].size != size || memcmp(inputs.table[at].name, name, size) != 0))
        at = (at + 1) & (inputs.room - 1);
    return &inputs.table[at];
}

static bool grow(void) {
    struct input *old = inputs.table;
    unsigned room = inputs.room;
    inputs.room = room ? room * 2 : 256;
    inputs.table = calloc(inputs.room, sizeof *inputs.table);
    if (inputs.table == NULL) {
        inputs.table = old;
        inputs.room = room;
        return false;
    }
    for (unsigned i = 0; i < room; i++)
        if (old[i].name != NULL)
            *slot_of(old[i].name, old[i].size) = old[i];
    free(old);
    return true;
}

void zy_inputs_add(const char *name, size_t size) {
    if (inputs.count * 2 >= inputs.room && !grow())
        abort(); /* forgetting one would mean serving a stale answer; this zygote must not serve */
    struct input *in = slot_of(name, size);
    if (in->name != NULL)
        return;
    in->name = strndup(name, size);
    if (in->name == NULL)
        abort();
    in->size = size;
    inputs.count++;
}

int zy_inputs_collect(bool starting, struct wf_err *err) {
    const char *names;
    size_t size;
    if (zy_observed(ZY_OBSERVED_VARIABLES, &names, &size, err) < 0)
        return -1;
    for (size_t at = 0; at < size; at += strlen(names + at) + 1)
        if (!starting || strcmp(names + at, "PATH") != 0)
            zy_inputs_add(names + at, strlen(names + at));
    return 0;
}

void zy_inputs_all(void) { inputs.all = true; }

int zy_observed(enum zy_observed kind, const char **ret_strings, size_t *ret_size,
                struct wf_err *err) {
    size_t (*get)(int, const char **);
    *(void **)&get = dlsym(RTLD_DEFAULT, "wf_observe_strings");
    const int *full = dlsym(RTLD_DEFAULT, "wf_observe_full");
    if (get == NULL || full == NULL)
        return wf_err_msg(
            err, "dlsym wf_observe_strings: the preloaded _observe.so is not active in this "
                 "interpreter (statically linked?), so its inputs cannot be known");
    if (*full)
        return wf_err_msg(err,
                          "warming up consulted more variables or files than _observe.so can note");
    *ret_size = get((int)kind, ret_strings);
    return 0;
}

unsigned zy_observed_calls(const char *symbol) {
    const atomic_uint *count = dlsym(RTLD_DEFAULT, symbol);
    return count ? atomic_load(count) : 0;
}

void zy_observe(bool on) {
    void (*record)(int);
    *(void **)&record = dlsym(RTLD_DEFAULT, "wf_observe_record");
    if (record != NULL)
        record(on);
}

/* The '=' of entry `s`, or NULL for an entry without one (nothing can look that up). */
static const char *split(const char *s) { return strchr(s, '='); }

void zy_inputs_bind(const struct wf_request *request) {
    const char *s = (const char *)request->strings.data;
    for (uint32_t i = 0; i < request->argc; i++)
        s += strlen(s) + 1;
    inputs.present = 0;
    for (unsigned i = 0; i < inputs.room; i++) {
        free(inputs.table[i].value);
        inputs.table[i].value = NULL;
    }
    for (uint32_t i = 0; i < request->envc && inputs.room; i++, s += strlen(s) + 1) {
        const char *eq = split(s);
        struct input *in = eq ? slot_of(s, (size_t)(eq - s)) : NULL;
        if (in == NULL || in->name == NULL || in->value != NULL)
            continue; /* the first of duplicates counts, as for getenv */
        in->value = strdup(eq + 1);
        if (in->value == NULL)
            abort();
        inputs.present++;
    }
}

/* Where the environment begins in `strings`, and its size. */
static const char *environment_of(const struct wf_request *r, size_t *ret_size) {
    const char *first = (const char *)r->strings.data, *s = first;
    for (uint32_t i = 0; i < r->argc; i++)
        s += strlen(s) + 1;
    *ret_size = r->strings.size - (size_t)(s - first);
    return s;
}

bool zy_inputs_same_environment(const struct wf_request *request) {
    size_t size, own_size;
    const char *env = environment_of(request, &size), *own = environment_of(&zy.request, &own_size);
    return size == own_size && memcmp(env, own, size) == 0;
}

bool zy_inputs_match(const struct wf_request *request, const char **ret_name) {
    if (zy_inputs_same_environment(request))
        return true;
    if (inputs.all) {
        *ret_name = "the environment, looked at as a whole at warm-up,";
        return false;
    }
    const char *s = (const char *)request->strings.data;
    unsigned found = 0;
    for (uint32_t i = 0; i < request->argc; i++)
        s += strlen(s) + 1;
    for (uint32_t i = 0; i < request->envc && inputs.room; i++) {
        const char *eq = split(s);
        const struct input *in = eq ? slot_of(s, (size_t)(eq - s)) : NULL;
        size_t size = strlen(s);
        if (in != NULL && in->name != NULL) {
            if (in->value == NULL || strcmp(in->value, eq + 1) != 0) {
                *ret_name = in->name;
                return false;
            }
            found++;
        }
        s += size + 1;
    }
    if (found !=
        inputs.present) { /* one is missing (or was given twice: not worth telling apart) */
        *ret_name = "a variable that was set at warm-up";
        return false;
    }
    return true;
}
