#include "queue/arena.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* How much memory an arena keeps for its next message. Fresh pages cost three times what copying
 * into them does. */
#define IDLE_MAX ((uint64_t)256 << 20)
#define HIGH_FD 512 /* out of the way of programs that count on low numbers */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U /* Linux 6.3 */
#endif

static uint64_t offset_of(uint64_t handle) { return handle & ~(uint64_t)(WF_ARENA_GRAIN - 1); }

static uint64_t rounded(uint64_t size) {
    return (size + WF_ARENA_GRAIN - 1) / WF_ARENA_GRAIN * WF_ARENA_GRAIN;
}

int wf_arena_create(struct wf_err *err) {
    int fd = memfd_create("warmfork-arena", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("warmfork-arena", MFD_CLOEXEC);
    if (fd < 0)
        return wf_err_sys(err, "memfd_create", "warmfork-arena");
    return wf_move_fd(fd, HIGH_FD);
}

void wf_arena_init(struct wf_arena *arena, int fd) { *arena = (struct wf_arena){ .fd = fd }; }

void wf_arena_done(struct wf_arena *arena) {
    free(arena->range);
    *arena = (struct wf_arena){ .fd = -1 };
}

static int insert(struct wf_arena *arena, size_t at, struct wf_arena_range range) {
    if (arena->count == arena->room) {
        size_t room = arena->room ? arena->room * 2 : 32;
        struct wf_arena_range *grown = realloc(arena->range, room * sizeof *grown);
        if (!grown)
            return -1;
        arena->range = grown;
        arena->room = room;
    }
    memmove(&arena->range[at + 1], &arena->range[at], (arena->count - at) * sizeof range);
    arena->range[at] = range;
    arena->count++;
    return 0;
}

static void take_out(struct wf_arena *arena, size_t at) {
    arena->count--;
    memmove(&arena->range[at], &arena->range[at + 1], (arena->count - at) * sizeof *arena->range);
}

/* A free range that is large enough: one that holds memory rather than one that does not. */
static size_t find(const struct wf_arena *arena, uint64_t size) {
    size_t found = arena->count;
    for (size_t i = 0; i < arena->count; i++) {
        const struct wf_arena_range *r = &arena->range[i];
        if (r->used || r->size < size)
            continue;
        if (r->backed)
            return i;
        if (found == arena->count)
            found = i;
    }
    return found;
}

static struct wf_arena_range *allocate(struct wf_arena *arena, uint64_t size, struct wf_err *err) {
    size_t i = find(arena, size);
    if (i == arena->count) {
        struct wf_arena_range range = { .offset = arena->end, .size = size };
        if (ftruncate(arena->fd, (off_t)(arena->end + size)) < 0) {
            wf_err_sys(err, "ftruncate", "warmfork-arena");
            return NULL;
        }
        if (insert(arena, i, range) < 0) {
            wf_err_sys(err, "realloc", "ranges of an arena");
            return NULL;
        }
        arena->end += size;
    } else if (arena->range[i].size > size) {
        struct wf_arena_range rest = arena->range[i];
        rest.offset += size;
        rest.size -= size;
        if (insert(arena, i + 1, rest) < 0) {
            wf_err_sys(err, "realloc", "ranges of an arena");
            return NULL;
        }
        arena->range[i].size = size;
    }
    struct wf_arena_range *r = &arena->range[i];
    if (r->backed)
        arena->idle -= r->size;
    r->used = true;
    r->backed = true;
    r->holder = -1;
    r->stamp = ++arena->stamp;
    return r;
}

int wf_arena_reserve(struct wf_arena *arena, size_t size, uint64_t *ret_handle,
                     struct wf_err *err) {
    if (size > (uint64_t)1 << 46)
        return wf_err_msg(err, "a message of %zu bytes", size);
    struct wf_arena_range *r = allocate(arena, rounded(size ? size : 1), err);
    if (!r)
        return -1;
    *ret_handle = r->offset | r->stamp;
    return 0;
}

int wf_arena_fill(int fd, uint64_t handle, uint64_t at, const void *data, size_t size,
                  struct wf_err *err) {
    /* pwrite, not a mapping: it fills fresh pages without clearing them first, and takes no fault
     * for each. */
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, (const char *)data + done, size - done,
                           (off_t)(offset_of(handle) + at + done));
        if (n < 0 && errno != EINTR)
            return wf_err_sys(err, "pwrite", "warmfork-arena");
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int wf_arena_write(struct wf_arena *arena, const void *data, size_t size, uint64_t *ret_handle,
                   struct wf_err *err) {
    if (wf_arena_reserve(arena, size, ret_handle, err) < 0)
        return -1;
    if (wf_arena_fill(arena->fd, *ret_handle, 0, data, size, err) == 0)
        return 0;
    wf_arena_free(arena, *ret_handle);
    return -1;
}

/* Neighbours that are free become one, if both hold memory or neither does. */
static void merge(struct wf_arena *arena, size_t i) {
    struct wf_arena_range *r = &arena->range[i];
    if (i + 1 < arena->count && !r[1].used && r[1].backed == r->backed) {
        r->size += r[1].size;
        take_out(arena, i + 1);
    }
    if (i > 0 && !r[-1].used && r[-1].backed == r->backed) {
        r[-1].size += r->size;
        take_out(arena, i);
    }
}

/* The range of a handle, or NULL when it is not valid any more. */
static struct wf_arena_range *locate(struct wf_arena *arena, uint64_t handle) {
    size_t low = 0, high = arena->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (arena->range[middle].offset < offset_of(handle))
            low = middle + 1;
        else
            high = middle;
    }
    struct wf_arena_range *r = &arena->range[low];
    return low < arena->count && r->used && (r->offset | r->stamp) == handle ? r : NULL;
}

static void give_back(struct wf_arena *arena, struct wf_arena_range *r) {
    r->used = false;
    r->backed = arena->idle + r->size <= IDLE_MAX;
    if (r->backed)
        arena->idle += r->size;
    else
        wf_arena_drop(arena->fd, r->offset, r->size);
}

void wf_arena_free(struct wf_arena *arena, uint64_t handle) {
    struct wf_arena_range *r = locate(arena, handle);
    if (!r)
        return;
    give_back(arena, r);
    merge(arena, (size_t)(r - arena->range));
}

void wf_arena_hold(struct wf_arena *arena, uint64_t handle, int holder) {
    struct wf_arena_range *r = locate(arena, handle);
    if (r)
        r->holder = holder;
}

void wf_arena_free_held(struct wf_arena *arena, int holder) {
    for (size_t i = arena->count; i-- > 0;)
        if (arena->range[i].used && arena->range[i].holder == holder) {
            give_back(arena, &arena->range[i]);
            merge(arena, i);
        }
}

void *wf_arena_map(int fd, uint64_t handle, size_t size, struct wf_err *err) {
    struct stat st;
    uint64_t offset = offset_of(handle);
    if (fstat(fd, &st) < 0) {
        wf_err_sys(err, "fstat", "warmfork-arena");
        return NULL;
    }
    if (size == 0 || offset > (uint64_t)st.st_size || size > (uint64_t)st.st_size - offset) {
        wf_err_msg(err, "%zu bytes at %llu are not in the arena", size, (unsigned long long)offset);
        return NULL;
    }
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
                      (off_t)offset);
    if (data == MAP_FAILED) {
        wf_err_sys(err, "mmap", "warmfork-arena");
        return NULL;
    }
    return data;
}

void wf_arena_unmap(void *data, size_t size) { munmap(data, size); }

void wf_arena_drop(int fd, uint64_t handle, size_t size) {
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset_of(handle),
              (off_t)rounded(size));
}
