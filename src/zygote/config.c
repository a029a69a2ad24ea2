/* What the interpreter's own configuration says of the program: its arguments and the entry ahead
 * of sys.path. A new subinterpreter copies them from there, and PyConfig's layout is private and
 * another in each version: the fields are found by what they hold when the zygote starts. Where one
 * is not found subinterpreters have the zygote's, and nothing else differs. */
#include "zygote/python.h"
#include "zygote/zygote.h"

#include "base/io.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wchar.h>

/* PyWideStringList. */
struct wide_list {
    Py_ssize_t length;
    wchar_t **items;
};

static struct {
    struct wide_list *argv, *orig_argv;
    wchar_t **path0; /* CPython 3.12: in _PyRuntime; since then in PyConfig */
    void *(*allocate)(size_t);
} config;

#define CONFIG_REACH 2048        /* PyConfig's size, generously */
#define RUNTIME_REACH 131072     /* what of _PyRuntime is searched */
#define INTERPRETER_REACH 524288 /* the same of PyInterpreterState */
#define TEXT 4096

/* Copies what may not be mapped: the kernel looks. False if it is not there. */
static bool peek(int scratch, const void *from, void *to, size_t size) {
    return pwrite(scratch, from, size, 0) == (ssize_t)size &&
           pread(scratch, to, size, 0) == (ssize_t)size;
}

static bool could_point(const void *p) {
    return (uintptr_t)p > 4096 && (uintptr_t)p % sizeof(wchar_t) == 0;
}

static bool is_text(int scratch, const wchar_t *at, PyObject *want) {
    wchar_t wide[TEXT], found[TEXT];
    if (!could_point(at))
        return false;
    Py_ssize_t size = PyUnicode_GetLength(want) + 1;
    return size <= TEXT && PyUnicode_AsWideChar(want, wide, size) == size - 1 &&
           peek(scratch, at, found, (size_t)size * sizeof *found) &&
           wmemcmp(found, wide, (size_t)size - 1) == 0 && found[size - 1] == L'\0';
}

static bool is_list(int scratch, const struct wide_list *list, PyObject *want) {
    if (list->length != PyList_Size(want) || list->length == 0 || !could_point(list->items))
        return false;
    for (Py_ssize_t i = 0; i < list->length; i++) {
        wchar_t *item;
        if (!peek(scratch, list->items + i, &item, sizeof item) ||
            !is_text(scratch, item, PyList_GetItem(want, i)))
            return false;
    }
    return true;
}

/* The list in the interpreter's state that holds what `want` does. */
static struct wide_list *find_list(int scratch, PyObject *want) {
    char *at = (char *)PyInterpreterState_Get();
    char block[4096 + sizeof(struct wide_list)];
    for (size_t done = 0; want != NULL && done < INTERPRETER_REACH; done += 4096) {
        if (!peek(scratch, at + done, block, sizeof block))
            return NULL;
        for (size_t i = 0; i < 4096; i += sizeof(void *)) {
            struct wide_list list;
            memcpy(&list, block + i, sizeof list);
            if (is_list(scratch, &list, want))
                return (struct wide_list *)(void *)(at + done + i);
        }
    }
    return NULL;
}

static wchar_t **find_text(int scratch, char *at, size_t size, PyObject *want) {
    wchar_t *block[256];
    for (size_t done = 0; want != NULL && done < size; done += sizeof block) {
        if (!peek(scratch, at + done, block, sizeof block))
            return NULL;
        for (size_t i = 0; i < sizeof block / sizeof *block; i++)
            if (is_text(scratch, block[i], want))
                return (wchar_t **)(void *)(at + done) + i;
    }
    return NULL;
}

static void find_path0(int scratch, PyObject *argv) {
    PyObject *path0 = zp.safe_path ? NULL : PyList_GetItem(zp.path, 0);
    if (zp.minor == 12) {
        config.path0 = find_text(scratch, dlsym(RTLD_DEFAULT, "_PyRuntime"), RUNTIME_REACH, path0);
    } else if (zp.minor > 12 && config.argv != NULL && path0 != NULL) {
        config.path0 = find_text(scratch, (char *)config.argv, CONFIG_REACH, path0);
    } else if (zp.minor > 12 && config.argv != NULL) {
        /* There is none, and will be one for an archive. It lies behind run_filename. */
        wchar_t **file = find_text(scratch, (char *)config.argv, CONFIG_REACH,
                                   PyList_GetItem(argv, 0));
        config.path0 = file != NULL && file[1] == NULL ? file + 1 : NULL;
    }
}

void zy_config_find(void) {
    int scratch = memfd_create("warmfork-config", MFD_CLOEXEC);
    PyObject *argv = zp_get(zp.sys_dict, "argv");
    *(void **)&config.allocate = dlsym(RTLD_DEFAULT, "PyMem_RawMalloc");
    if (scratch >= 0 && config.allocate != NULL) {
        config.argv = find_list(scratch, argv);
        config.orig_argv = find_list(scratch, zp_get(zp.sys_dict, "orig_argv"));
        find_path0(scratch, argv);
    }
    PyErr_Clear();
    wf_close(&scratch);
}

/* The interpreter frees it as its own. */
static wchar_t *copy_text(PyObject *text) {
    Py_ssize_t size = PyUnicode_GetLength(text) + 1;
    wchar_t *copy = size > 0 ? config.allocate((size_t)size * sizeof *copy) : NULL;
    return copy != NULL && PyUnicode_AsWideChar(text, copy, size) >= 0 ? copy : NULL;
}

/* All or nothing. What was there is the zygote's: not given back, for that would touch its pages.
 */
static void renew_list(struct wide_list *list, PyObject *from) {
    Py_ssize_t length = PyList_Size(from);
    wchar_t **items = list ? config.allocate((size_t)length * sizeof *items + 1) : NULL;
    if (items == NULL)
        return;
    for (Py_ssize_t i = 0; i < length; i++)
        if ((items[i] = copy_text(PyList_GetItem(from, i))) == NULL)
            return;
    *list = (struct wide_list){ length, items };
}

void zy_config_arguments(PyObject *argv, PyObject *orig_argv) {
    renew_list(config.argv, argv);
    renew_list(config.orig_argv, orig_argv);
}

bool zy_config_path0(PyObject *path0) {
    if (config.path0 == NULL)
        return path0 == NULL || zp.minor < 12;
    *config.path0 = path0 ? copy_text(path0) : NULL;
    return true;
}
