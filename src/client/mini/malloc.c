/* malloc for a process that lives as long as one program and asks a dozen times: each block is
 * taken from the front of the last region, or, when large, is a mapping of its own. Only mappings,
 * and the block that was made last, are given back. */
#include "client/mini/mini.h"
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGN alignof(max_align_t)
#define REGION (64u << 10)
#define LARGE (16u << 10) /* from here on a block is a mapping of its own */

struct block {
    alignas(ALIGN) size_t size; /* usable bytes behind this header */
};

static unsigned char first[4096] __attribute__((aligned(ALIGN))); /* most runs need no more */
static unsigned char *next = first, *end = first + sizeof first;

static void *map(size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static struct block *header(void *p) { return (struct block *)p - 1; }

static bool is_last(const struct block *b) {
    return (const unsigned char *)(b + 1) + b->size == next;
}

void *malloc(size_t size) {
    if (size > PTRDIFF_MAX - REGION) {
        errno = ENOMEM;
        return NULL;
    }
    size = (size + ALIGN - 1) & ~(ALIGN - 1);
    size_t whole = sizeof(struct block) + size;
    struct block *b;
    if (whole >= LARGE) {
        b = map(whole);
        if (!b)
            return NULL;
    } else {
        if (whole > (size_t)(end - next)) {
            unsigned char *region = map(REGION);
            if (!region)
                return NULL;
            next = region;
            end = region + REGION;
        }
        b = (struct block *)next;
        next += whole;
    }
    b->size = size;
    return b + 1;
}

void free(void *p) {
    if (!p)
        return;
    struct block *b = header(p);
    int saved = errno;
    if (sizeof *b + b->size >= LARGE)
        munmap(b, sizeof *b + b->size);
    else if (is_last(b))
        next = (unsigned char *)b;
    errno = saved;
}

void *calloc(size_t count, size_t size) {
    size_t whole;
    if (__builtin_mul_overflow(count, size, &whole)) {
        errno = ENOMEM;
        return NULL;
    }
    void *p = malloc(whole);
    return p ? memset(p, 0, whole) : NULL;
}

void *realloc(void *p, size_t size) {
    if (!p)
        return malloc(size);
    struct block *b = header(p);
    if (size <= b->size)
        return p;
    void *grown = malloc(size);
    if (!grown)
        return NULL;
    memcpy(grown, p, b->size);
    free(p);
    return grown;
}
