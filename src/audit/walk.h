/* The interpreter's objects, walked for those of certain types. */
#pragma once

#include <sys/types.h>

struct _object; /* PyObject: Python.h is for files named *module.c */

/* What is looked for. All borrowed. */
struct wa_wanted {
    struct _object *classes; /* tuple: instances of these, or of what is derived from them */
    struct _object *key; /* a dict with this key and a size within these bounds counts as well */
    ssize_t least, most;
    struct _object *roots; /* list to start from besides the collector's objects, or NULL: needed to
                              see what gc.freeze() has taken out of the collector's sight */
};

/* Returns (found, objects, pages): a list of tuples (object, what refers to it or None), which may
 * name an object more than once; how many objects the collector sees; and on how many pages of
 * memory a collection writes. NULL with an exception. Runs no Python code of the objects. */
struct _object *wa_walk(const struct wa_wanted *wanted);
