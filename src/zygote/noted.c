/* Modules that note the directory in which the program was when it imported them, and never ask
 * again. Set-up makes the note anew, so that they may be preloaded; whoever does anything else with
 * the working directory at import may not. */
#include "zygote/python.h"
#include "zygote/zygote.h"

#include <limits.h>
#include <unistd.h>

static const struct {
    const char *module, *name;
    bool none; /* what stands for a directory that is gone: None, else "" */
} noted[] = {
    { "multiprocessing.process", "ORIGINAL_DIR", true },
    { "rich", "_IMPORT_CWD", false },
    { "pip._vendor.rich", "_IMPORT_CWD", false },
};

#define NOTED (sizeof noted / sizeof *noted)

unsigned zy_noted_count(const char *cwd) {
    unsigned count = 0;
    for (size_t i = 0; i < NOTED; i++) {
        PyObject *module = zp_get(zp.modules, noted[i].module);
        PyObject *value = module ? PyObject_GetAttrString(module, noted[i].name) : NULL;
        count += (value == Py_None && cwd[0] == '\0') ||
                 (value != NULL && PyUnicode_Check(value) &&
                  PyUnicode_CompareWithASCIIString(value, cwd) == 0);
        Py_XDECREF(value);
        PyErr_Clear();
    }
    return count;
}

int zy_noted_renew(struct wf_err *err) {
    PyObject *dir = NULL;
    bool gone = false, failed = false;
    for (size_t i = 0; i < NOTED && !failed; i++) {
        char cwd[PATH_MAX];
        PyObject *module = zp_get(zp.modules, noted[i].module);
        if (module == NULL)
            continue;
        if (dir == NULL) {
            gone = getcwd(cwd, sizeof cwd) == NULL;
            dir = PyUnicode_DecodeFSDefault(gone ? "" : cwd);
        }
        PyObject *value = gone && noted[i].none ? Py_None : dir;
        failed = value == NULL || PyObject_SetAttrString(module, noted[i].name, value) < 0;
    }
    Py_XDECREF(dir);
    return failed ? zp_failed(err, "the working directory that a module noted") : 0;
}
