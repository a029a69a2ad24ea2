/* What warming up did to the environment, and has to be done to each program's too: python coerces
 * LC_CTYPE (PEP 538), and modules set variables for their children when they are imported
 * (scikit-learn: KMP_INIT_AT_FORK). The values such code looked at are inputs, so the change is the
 * same for every request that is served. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include <stdlib.h>
#include <string.h>

extern char **environ;

static struct {
    char **set;   /* "NAME=VALUE" */
    char **unset; /* "NAME" */
    unsigned sets, unsets;
} changes;

/* These are the zygote's own: the caller's are in force again before anything runs. */
static bool is_ours(const char *entry, size_t size) {
    static const char *const own[] = { "LD_PRELOAD", "GLIBC_TUNABLES" };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strlen(own[i]) == size && memcmp(entry, own[i], size) == 0)
            return true;
    return false;
}

static bool same_name(const char *a, const char *b, size_t size) {
    return strncmp(a, b, size) == 0 && (b[size] == '=' || b[size] == '\0') &&
           (a[size] == '=' || a[size] == '\0');
}

static const char *request_entry(const struct wf_request *r, const char *name, size_t size) {
    const char *s = (const char *)r->strings.data;
    for (uint32_t i = 0; i < r->argc + r->envc; i++, s += strlen(s) + 1)
        if (i >= r->argc && same_name(name, s, size) && s[size] == '=')
            return s;
    return NULL;
}

static const char *own_entry(const char *name, size_t size) {
    for (char **e = environ; e != NULL && *e != NULL; e++)
        if (same_name(name, *e, size) && (*e)[size] == '=')
            return *e;
    return NULL;
}

static bool append(char ***list, unsigned *count, const char *entry, size_t size) {
    char **more = realloc(*list, (*count + 1) * sizeof *more);
    if (more == NULL)
        return false;
    *list = more;
    more[*count] = strndup(entry, size);
    return more[(*count)++] != NULL;
}

int zy_changes_find(const struct wf_request *r, struct wf_err *err) {
    bool ok = true;
    for (char **e = environ; e != NULL && *e != NULL; e++) {
        const char *eq = strchr(*e, '=');
        if (eq == NULL || is_ours(*e, (size_t)(eq - *e)) || own_entry(*e, (size_t)(eq - *e)) != *e)
            continue; /* of one name given twice the first counts */
        const char *asked = request_entry(r, *e, (size_t)(eq - *e));
        if (asked == NULL || strcmp(asked, *e) != 0)
            ok &= append(&changes.set, &changes.sets, *e, strlen(*e));
    }
    const char *s = (const char *)r->strings.data;
    for (uint32_t i = 0; i < r->argc + r->envc; i++, s += strlen(s) + 1) {
        const char *eq = i >= r->argc ? strchr(s, '=') : NULL;
        if (eq != NULL && !is_ours(s, (size_t)(eq - s)) && own_entry(s, (size_t)(eq - s)) == NULL)
            ok &= append(&changes.unset, &changes.unsets, s, (size_t)(eq - s));
    }
    return ok ? 0 : wf_err_sys(err, "malloc", "changes of the environment");
}

unsigned zy_changes_room(void) { return changes.sets; }

void zy_changes_apply(struct zy_job *job) {
    if (changes.sets + changes.unsets == 0)
        return;
    unsigned to = 0;
    char **env = job->envp;
    bool placed[64] = { false };
    for (unsigned from = 0; env[from] != NULL; from++) {
        bool drop = false;
        for (unsigned i = 0; i < changes.unsets && !drop; i++)
            drop = same_name(changes.unset[i], env[from], strlen(changes.unset[i]));
        for (unsigned i = 0; i < changes.sets && i < 64 && !drop; i++) {
            size_t size = strcspn(changes.set[i], "=");
            if (same_name(changes.set[i], env[from], size)) { /* setenv keeps the place */
                env[from] = changes.set[i];
                placed[i] = true;
            }
        }
        if (!drop)
            env[to++] = env[from];
    }
    for (unsigned i = 0; i < changes.sets && i < 64; i++)
        if (!placed[i])
            env[to++] = changes.set[i];
    env[to] = NULL;
}
