/* The heap: python's arenas on huge pages, and objects frozen out of the collector's sight.
 *
 * Forking copies page tables: 0.06 us per 4 KiB page. On 2 MiB pages it hardly grows with the heap.
 * The arena allocator is not part of the stable ABI, so it is found at run time; without it the
 * heap merely stays slower. */
#include "zygote/zygote.h"
#include "zygote/python.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE_SIZE ((size_t)2 << 20)
#define CHUNK_SIZE                                                                                 \
    ((size_t)32 << 20) /* small enough for a program that limits its own address space */
#define MAX_CHUNKS 1024

struct arena_allocator { /* PyObjectArenaAllocator, since 3.4 */
    void *ctx;
    void *(*alloc)(void *ctx, size_t size);
    void (*free)(void *ctx, void *ptr, size_t size);
};

static struct {
    struct arena_allocator original;
    size_t arena_size; /* the one size served: the allocator is also asked for others */
    uint8_t *chunk[MAX_CHUNKS];
    unsigned chunks;
    size_t used;     /* of the last chunk */
    void *free_list; /* arenas given back, linked through their first word */
    bool own;        /* false in workers: a program's new memory is its own affair */
} heap;

static uint8_t *chunk_new(void) {
    uint8_t *raw = mmap(NULL, CHUNK_SIZE + HUGE_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    uint8_t *start = (uint8_t *)(((uintptr_t)raw + HUGE_SIZE - 1) & ~(uintptr_t)(HUGE_SIZE - 1));
    if (start > raw)
        munmap(raw, (size_t)(start - raw));
    if (raw + HUGE_SIZE > start)
        munmap(start + CHUNK_SIZE, (size_t)(raw + HUGE_SIZE - start));
    madvise(start, CHUNK_SIZE, MADV_HUGEPAGE);
    return start;
}

static void *arena_alloc(void *ctx, size_t size) {
    (void)ctx;
    if (!heap.own || size != heap.arena_size)
        return heap.original.alloc(heap.original.ctx, size);
    if (heap.free_list != NULL) {
        void *arena = heap.free_list;
        heap.free_list = *(void **)arena;
        return arena;
    }
    if (heap.chunks == 0 || heap.used + size > CHUNK_SIZE) {
        uint8_t *chunk = heap.chunks < MAX_CHUNKS ? chunk_new() : NULL;
        if (chunk == NULL)
            return heap.original.alloc(heap.original.ctx, size);
        heap.chunk[heap.chunks++] = chunk;
        heap.used = 0;
    }
    void *arena = heap.chunk[heap.chunks - 1] + heap.used;
    heap.used += size;
    return arena;
}

static void arena_free(void *ctx, void *ptr, size_t size) {
    (void)ctx;
    for (unsigned i = 0; i < heap.chunks; i++) {
        if ((uint8_t *)ptr >= heap.chunk[i] && (uint8_t *)ptr < heap.chunk[i] + CHUNK_SIZE) {
            if (heap.own) {
                *(void **)ptr = heap.free_list;
                heap.free_list = ptr;
            } /* in a worker: writing there would only copy a page */
            return;
        }
    }
    heap.original.free(heap.original.ctx, ptr, size);
}

int zy_heap_init(void) {
    void (*get)(struct arena_allocator *);
    void (*set)(struct arena_allocator *);
    *(void **)&get = dlsym(RTLD_DEFAULT, "PyObject_GetArenaAllocator");
    *(void **)&set = dlsym(RTLD_DEFAULT, "PyObject_SetArenaAllocator");
    if (get == NULL || set == NULL)
        return 0;
    get(&heap.original);
    heap.arena_size = (size_t)1 << 20; /* ARENA_SIZE of 3.10 and newer on 64 bits */
    heap.own = true;
    struct arena_allocator ours = { NULL, arena_alloc, arena_free };
    set(&ours);
    return 0;
}

/* What was allocated before zy_heap_init, and malloc's own regions, become huge pages where whole 2
 * MiB of them lie together. One pass over the maps; kernels before 6.1 leave them as they are. */
static void collapse_mappings(void) {
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to, inode;
        char perms[8], path[256] = "";
        if (sscanf(line, "%lx-%lx %7s %*s %*s %lu %255s", &from, &to, perms, &inode, path) < 4)
            continue;
        if (strcmp(perms, "rw-p") != 0 || inode != 0 ||
            (path[0] == '[' && strcmp(path, "[heap]") != 0))
            continue;
        unsigned long start = (from + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1),
                      end = to & ~(HUGE_SIZE - 1);
        if (start < end && end - start <= (unsigned long)256 << 20)
            madvise((void *)start, end - start, MADV_COLLAPSE);
    }
    if (maps != NULL)
        fclose(maps);
}

void zy_heap_freeze(void) {
    zy_reseed_prepare();
    zp.gc_was_enabled = PyGC_IsEnabled();
    PyObject *collected = PyObject_CallFunctionObjArgs(zp.gc_collect, NULL);
    Py_XDECREF(collected);
    collapse_mappings();
    PyGC_Disable(); /* a collection in the zygote would only dirty pages */
    zy_collector_freeze();
}

void zy_heap_freeze_again(void) { zy_collector_freeze(); }

void zy_heap_worker(void) {
    heap.own = false;
    if (zp.gc_was_enabled)
        PyGC_Enable();
}

void zy_heap_candidate(void) {
    heap.own = true;
    if (zp.gc_was_enabled)
        PyGC_Enable();
}
