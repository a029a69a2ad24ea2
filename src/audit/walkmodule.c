/* One pass over what the collector sees and what that refers to, in C because there may be millions
 * of objects. Objects that the collector does not track (atomic ones, dicts and tuples of such) are
 * reached from those it does. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "audit/walk.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* A set of pointers, or of page numbers; 0 is no member. */
struct set {
    uintptr_t *slot;
    size_t room, count;
};

enum verdict { KNOWN = 1, WANTED = 2, BOX = 4, DICT = 8, TRAVERSED = 16 };

struct type_entry {
    PyTypeObject *type;
    unsigned verdict;
    traverseproc traverse;
};

struct walk {
    const struct wa_wanted *wanted;
    PyObject *found, *holder;
    struct {
        struct type_entry *slot;
        size_t room, count;
    } types;
    struct set seen, pages; /* seen: only with roots */
    PyObject **stack;
    size_t height, room;
    bool failed;
};

static size_t hash_of(uintptr_t value) { return (size_t)(value >> 4) * 0x9E3779B97F4A7C15u >> 20; }

static bool set_grow(struct set *s) {
    struct set bigger = { .room = s->room ? s->room * 2 : 4096 };
    bigger.slot = calloc(bigger.room, sizeof *bigger.slot);
    if (bigger.slot == NULL)
        return false;
    for (size_t i = 0; i < s->room; i++) {
        if (s->slot[i] == 0)
            continue;
        size_t at = hash_of(s->slot[i]) & (bigger.room - 1);
        while (bigger.slot[at] != 0)
            at = (at + 1) & (bigger.room - 1);
        bigger.slot[at] = s->slot[i];
    }
    bigger.count = s->count;
    free(s->slot);
    *s = bigger;
    return true;
}

/* 1: added, 0: it was there, -1: no memory. */
static int set_add(struct set *s, uintptr_t value) {
    if (s->count * 2 >= s->room && !set_grow(s))
        return -1;
    size_t at = hash_of(value) & (s->room - 1);
    while (s->slot[at] != 0 && s->slot[at] != value)
        at = (at + 1) & (s->room - 1);
    if (s->slot[at] == value)
        return 0;
    s->slot[at] = value;
    s->count++;
    return 1;
}

static struct type_entry *type_slot(struct walk *w, PyTypeObject *type) {
    size_t at = hash_of((uintptr_t)type) & (w->types.room - 1);
    while (w->types.slot[at].type != NULL && w->types.slot[at].type != type)
        at = (at + 1) & (w->types.room - 1);
    return &w->types.slot[at];
}

static bool types_grow(struct walk *w) {
    struct type_entry *old = w->types.slot;
    size_t room = w->types.room;
    struct type_entry *slot = calloc(room ? room * 2 : 2048, sizeof *slot);
    if (slot == NULL)
        return false;
    w->types.slot = slot;
    w->types.room = room ? room * 2 : 2048;
    for (size_t i = 0; i < room; i++)
        if (old[i].type != NULL)
            *type_slot(w, old[i].type) = old[i];
    free(old);
    return true;
}

static unsigned judge(const struct walk *w, PyTypeObject *type) {
    unsigned verdict = KNOWN;
    for (Py_ssize_t i = 0; i < PyTuple_Size(w->wanted->classes); i++)
        if (PyType_IsSubtype(type, (PyTypeObject *)PyTuple_GetItem(w->wanted->classes, i)))
            verdict |= WANTED;
    if (type == &PyDict_Type)
        verdict |= BOX | DICT;
    if (type == &PyTuple_Type)
        verdict |= BOX;
    if (PyType_GetFlags(type) & Py_TPFLAGS_HAVE_GC)
        verdict |= TRAVERSED;
    return verdict;
}

/* Types are few, objects many: what a type is gets asked once. */
static struct type_entry *entry_of(struct walk *w, PyTypeObject *type) {
    struct type_entry *e = type_slot(w, type);
    if (e->type == type)
        return e;
    if (w->types.count * 2 >= w->types.room) {
        if (!types_grow(w))
            return NULL;
        e = type_slot(w, type);
    }
    *e = (struct type_entry){ .type = type, .verdict = judge(w, type) };
    if (e->verdict & TRAVERSED)
        *(void **)&e->traverse = PyType_GetSlot(type, Py_tp_traverse);
    w->types.count++;
    return e;
}

static bool note(struct walk *w, PyObject *object) {
    PyObject *pair = PyTuple_Pack(2, object, w->holder ? w->holder : Py_None);
    bool good = pair != NULL && PyList_Append(w->found, pair) == 0;
    Py_XDECREF(pair);
    return good;
}

static bool is_snapshot(const struct walk *w, PyObject *dict) {
    Py_ssize_t size = PyDict_Size(dict);
    return size >= w->wanted->least && size <= w->wanted->most &&
           PyDict_GetItemWithError(dict, w->wanted->key) != NULL;
}

static bool push(struct walk *w, PyObject *object) {
    if (w->height == w->room) {
        size_t room = w->room ? w->room * 2 : 1024;
        PyObject **stack = realloc(w->stack, room * sizeof *stack);
        if (stack == NULL)
            return false;
        w->stack = stack;
        w->room = room;
    }
    w->stack[w->height++] = object;
    return true;
}

static int fail(struct walk *w) {
    w->failed = true;
    if (!PyErr_Occurred())
        PyErr_NoMemory();
    return 1;
}

static int visit(PyObject *child, void *arg) {
    struct walk *w = arg;
    struct type_entry *e = entry_of(w, Py_TYPE(child));
    if (e == NULL)
        return fail(w);
    if (e->verdict == KNOWN)
        return 0;
    bool good = true;
    if (e->verdict & WANTED)
        good = note(w, child);
    if ((e->verdict & DICT) && is_snapshot(w, child))
        good = good && note(w, child);
    if (w->wanted->roots != NULL && (e->verdict & TRAVERSED)) {
        int added = set_add(&w->seen, (uintptr_t)child);
        good = good && added >= 0 && (added == 0 || push(w, child));
    } else if ((e->verdict & BOX) && !PyObject_GC_IsTracked(child)) {
        good = good && push(w, child);
    }
    return good ? 0 : fail(w);
}

/* Static types have a function for it that must not be called for them; the collector never does.
 */
static bool is_static_type(PyObject *object) {
    return PyType_Check(object) && !(PyType_GetFlags((PyTypeObject *)object) & Py_TPFLAGS_HEAPTYPE);
}

/* What `object` refers to, and then what was put on the stack meanwhile. */
static bool expand(struct walk *w, PyObject *object) {
    for (;;) {
        struct type_entry *e = entry_of(w, Py_TYPE(object));
        w->holder = object;
        if (e == NULL)
            fail(w);
        else if (e->traverse != NULL && !is_static_type(object))
            e->traverse(object, visit, w);
        if (w->failed || w->height == 0)
            return !w->failed;
        object = w->stack[--w->height];
    }
}

/* A collection writes to the header before each object. */
static bool count_page(struct walk *w, PyObject *object) {
    static uintptr_t last;
    uintptr_t page = ((uintptr_t)object - 2 * sizeof(void *)) >> 12;
    if (page == last && w->pages.count > 0)
        return true;
    last = page;
    return set_add(&w->pages, page << 4) >= 0;
}

static bool walk_list(struct walk *w, PyObject *objects, bool collected) {
    Py_ssize_t count = PyList_Size(objects);
    if (w->wanted->roots != NULL)
        for (Py_ssize_t i = 0; i < count; i++)
            if (set_add(&w->seen, (uintptr_t)PyList_GetItem(objects, i)) < 0)
                return !fail(w);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *object = PyList_GetItem(objects, i);
        struct type_entry *e = entry_of(w, Py_TYPE(object));
        if (e == NULL || (collected && !count_page(w, object)))
            return !fail(w);
        w->holder = NULL;
        if ((e->verdict & WANTED) && !note(w, object))
            return !fail(w);
        if (!expand(w, object))
            return false;
    }
    return true;
}

static PyObject *collector_objects(void) {
    PyObject *gc = PyImport_ImportModule("gc");
    PyObject *objects = gc ? PyObject_CallMethod(gc, "get_objects", NULL) : NULL;
    Py_XDECREF(gc);
    return objects;
}

PyObject *wa_walk(const struct wa_wanted *wanted) {
    struct walk w = { .wanted = wanted, .found = PyList_New(0) };
    PyObject *objects = w.found ? collector_objects() : NULL, *result = NULL;
    bool good = objects != NULL && (types_grow(&w) || !fail(&w)) && walk_list(&w, objects, true) &&
                (wanted->roots == NULL || walk_list(&w, wanted->roots, false));
    if (good && !PyErr_Occurred())
        result = Py_BuildValue("Onn", w.found, PyList_Size(objects), (Py_ssize_t)w.pages.count);
    free(w.types.slot);
    free(w.seen.slot);
    free(w.pages.slot);
    free(w.stack);
    Py_XDECREF(objects);
    Py_XDECREF(w.found);
    return result;
}
