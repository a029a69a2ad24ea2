/* warmctl audit: hands over to the auditor, which must run in the interpreter that is meant. */
#include "ctl/ctl.h"

#include "client/named.h"
#include "client/python.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Takes --python out of the options before the program, whose arguments are its own. Returns how
 * many arguments are left, or -1. */
static int take_python(int argc, char **argv, const char **ret_python) {
    int kept = 0, i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0 && argv[i][2]; i++) {
        if (strncmp(argv[i], "--python=", 9) == 0) {
            *ret_python = argv[i] + 9;
        } else if (strcmp(argv[i], "--python") == 0) {
            if (++i == argc)
                return -1;
            *ret_python = argv[i];
        } else {
            argv[++kept] = argv[i];
            if (strcmp(argv[i], "--fail-on") == 0 && i + 1 < argc)
                argv[++kept] = argv[++i];
        }
    }
    while (i < argc)
        argv[++kept] = argv[i++];
    return kept;
}

int wc_audit(int argc, char **argv) {
    char python[WF_PATH_ROOM], program[WF_PATH_ROOM];
    const char *wanted = NULL;
    struct wf_err err;
    int count = take_python(argc, argv, &wanted);
    if (count < 0)
        return wc_usage("--python needs a path", "");
    if (wf_python_find(wanted, environ, python, &err) < 0 ||
        wf_named_libfile(environ, "audit_program.py", program, &err) < 0)
        return wc_fail(err.text);
    char **args = calloc((size_t)count + 3, sizeof *args);
    if (!args)
        return wc_fail("out of memory");
    args[0] = python;
    args[1] = program;
    memcpy(args + 2, argv + 1, (size_t)count * sizeof *args);
    execve(python, args, environ);
    wf_err_sys(&err, "execve", python);
    free(args);
    return wc_fail(err.text);
}
