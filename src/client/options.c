#include "client/options.h"

#include "client/text.h"
#include "wire/wire.h"

#include <string.h>

static bool equals(const char *text, size_t size, const char *word) {
    return strlen(word) == size && memcmp(text, word, size) == 0;
}

/* Categories that python resolves without an import, and that exist in every version we serve. */
static bool builtin_category(const char *text, size_t size) {
    static const char *const names[] = {
        "Warning",        "UserWarning",   "DeprecationWarning",        "SyntaxWarning",
        "RuntimeWarning", "FutureWarning", "PendingDeprecationWarning", "ImportWarning",
        "UnicodeWarning", "BytesWarning",  "ResourceWarning",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (equals(text, size, names[i]))
            return true;
    return size == 0;
}

/* Python takes the beginning of a name for the name. */
static bool builtin_action(const char *text, size_t size) {
    static const char *const names[] = { "default", "always", "ignore", "module",
                                         "once",    "error",  "all" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (size > 0 && size <= strlen(names[i]) && memcmp(text, names[i], size) == 0)
            return true;
    return false;
}

/* action:message:category:module:lineno, later fields optional. python prints a line about an entry
 * it does not understand, at every start; a zygote would print it once, to nobody. */
bool wf_options_plain_filter(const char *text, size_t size) {
    for (unsigned field = 0;; field++) {
        const char *colon = memchr(text, ':', size);
        size_t length = colon != NULL ? (size_t)(colon - text) : size;
        if (field == 0 && !builtin_action(text, length))
            return false;
        if (field == 2 && !builtin_category(text, length))
            return false;
        if (field == 4)
            for (size_t i = 0; i < length; i++)
                if (text[i] < '0' || text[i] > '9' || i > 6)
                    return false;
        if (field > 4)
            return false;
        if (colon == NULL)
            return true;
        text += length + 1;
        size -= length + 1;
    }
}

/* -X keys that do nothing at start or end but set the interpreter up, and so can be done once for
 * many runs. */
static bool servable_x(const char *text) {
    static const char *const keys[] = { "dev",
                                        "utf8",
                                        "faulthandler",
                                        "no_debug_ranges",
                                        "int_max_str_digits",
                                        "frozen_modules",
                                        "warn_default_encoding",
                                        "cpu_count" };
    const char *equal = strchr(text, '=');
    size_t size = equal != NULL ? (size_t)(equal - text) : strlen(text);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (equals(text, size, keys[i]))
            return true;
    /* A relative prefix would follow the zygote's working directory. */
    return equals(text, size, "pycache_prefix") && (equal == NULL || equal[1] == '/');
}

/* One option that takes an argument, already separated from it. */
static const char *check_argument(char option, const char *argument) {
    if (option == 'W')
        return wf_options_plain_filter(argument, strlen(argument)) ? NULL : "an unusual -W option";
    return servable_x(argument) ? NULL : "an -X option that is not served warm";
}

static void found_program(struct wf_command *ret, uint32_t argc, char *const *argv, uint32_t at) {
    ret->target = at;
    if (at >= argc) {
        ret->mode = WF_MODE_STDIN;
        ret->target = argc;
    } else if (strcmp(argv[at], "-") == 0) {
        ret->mode = WF_MODE_STDIN;
    } else {
        size_t size = strlen(argv[at]);
        ret->mode = WF_MODE_SCRIPT;
        if (ret->cold != NULL)
            return;
        if (size >= 4 && memcmp(argv[at] + size - 4, ".pyc", 4) == 0)
            ret->cold = "a compiled program";
        else if (size == 0)
            ret->cold = "an empty program name";
    }
}

/* Reads the cluster argv[at] ("-Ic", "-Wdefault", "-X"). Returns how many arguments it takes, or 0
 * when the scan is over: it held -c or -m, or something that runs no program. */
static uint32_t scan_cluster(struct wf_command *ret, uint32_t argc, char *const *argv,
                             uint32_t at) {
    const char *arg = argv[at];
    for (uint32_t i = 1; arg[i] != '\0'; i++) {
        char option = arg[i];
        if (strchr("bBEIOPqRsSu", option) != NULL)
            continue;
        if (strchr("cmWX", option) == NULL)
            ret->cold = "an option that is not served warm";
        if (strchr("divx", option) != NULL)
            continue;
        bool attached = arg[i + 1] != '\0';
        if (ret->cold == NULL && !attached && at + 1 >= argc)
            ret->cold = "an option without its argument";
        if (strchr("cmWX", option) == NULL || (!attached && at + 1 >= argc)) {
            ret->mode = 0;
            return 0;
        }
        if (option == 'W' || option == 'X') {
            const char *cold = check_argument(option, attached ? arg + i + 1 : argv[at + 1]);
            ret->cold = cold != NULL ? cold : ret->cold;
            return attached ? 1 : 2;
        }
        ret->mode = option == 'c' ? WF_MODE_COMMAND : WF_MODE_MODULE;
        ret->target = attached ? at : at + 1;
        ret->target_offset = attached ? i + 1 : 0;
        ret->glued = i > 1 ? i : 0;
        ret->options = at - 1;
        return 0;
    }
    return 1;
}

void wf_options_scan(uint32_t argc, char *const *argv, struct wf_command *ret) {
    uint32_t at = 1;
    *ret = (struct wf_command){ .mode = WF_MODE_STDIN, .target = argc };
    if (argc == 0) {
        ret->cold = "no argument vector";
        ret->mode = 0;
        return;
    }
    while (at < argc && argv[at][0] == '-' && argv[at][1] != '\0') {
        uint32_t taken = 2;
        if (strcmp(argv[at], "--") == 0) {
            ret->options = at - 1;
            found_program(ret, argc, argv, at + 1);
            return;
        }
        if (strcmp(argv[at], "--check-hash-based-pycs") != 0)
            taken = argv[at][1] == '-' ? 0 : scan_cluster(ret, argc, argv, at);
        else if (at + 1 >= argc)
            taken = 0;
        if (taken == 0 && argv[at][1] == '-') {
            ret->cold = "a long option that is not served warm";
            ret->mode = 0;
        }
        if (taken == 0)
            return;
        at += taken;
    }
    ret->options = at - 1;
    found_program(ret, argc, argv, at);
}
