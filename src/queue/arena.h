/* Large messages: an unnamed file in memory (memfd) that one process writes and another one maps.
 *
 * The parent makes all arenas before it forks, one for itself and one for each worker, so that no
 * descriptor needs to be passed. The writer alone allocates in its arena; the reader tells it what
 * it has let go of. An arena is an account (struct wf_arena) in the writer, and just a descriptor
 * in the reader. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Offsets and sizes are multiples of it. A handle is an offset plus, in the bits that are free for
 * it, a stamp, so that a range that was freed and given away again is not freed a second time by
 * its old handle. */
enum { WF_ARENA_GRAIN = 1 << 16 };

struct wf_arena_range {
    uint64_t offset, size; /* size is what it occupies, a multiple of the grain */
    uint16_t stamp;
    bool used, backed; /* backed: may hold memory although it is free */
    int holder;        /* for wf_arena_hold; -1: nobody */
};

struct wf_arena {
    int fd;                       /* the caller's; negative: there is none */
    uint64_t end;                 /* of the file */
    uint64_t idle;                /* bytes that are free but still hold memory, for the next one */
    struct wf_arena_range *range; /* sorted by offset, without gaps */
    size_t count, room;
    uint16_t stamp; /* the last one given */
};

/* A descriptor for a new arena, close-on-exec, or -1. */
int wf_arena_create(struct wf_err *err);

void wf_arena_init(struct wf_arena *arena, int fd);
void wf_arena_done(struct wf_arena *arena); /* frees the account, leaves the descriptor alone */

/* Allocates a range for `size` bytes. It holds nothing yet. */
int wf_arena_reserve(struct wf_arena *arena, size_t size, uint64_t *ret_handle, struct wf_err *err);

/* Writes to a range, from its byte `at`. Does not look at the account: other threads may change
 * that meanwhile. */
int wf_arena_fill(int fd, uint64_t handle, uint64_t at, const void *data, size_t size,
                  struct wf_err *err);

/* Both. */
int wf_arena_write(struct wf_arena *arena, const void *data, size_t size, uint64_t *ret_handle,
                   struct wf_err *err);

/* The range may be used again. Handles that are not valid any more are ignored, here and below. */
void wf_arena_free(struct wf_arena *arena, uint64_t handle);

/* Notes that the reader `holder` may go on reading a range, and frees all that it holds: it is
 * gone. */
void wf_arena_hold(struct wf_arena *arena, uint64_t handle, int holder);
void wf_arena_free_held(struct wf_arena *arena, int holder);

/* Maps `size` bytes of a range for reading and writing; NULL on failure. A `size` or place that is
 * not in the file is an error, so that what is mapped can be read without SIGBUS. */
void *wf_arena_map(int fd, uint64_t handle, size_t size, struct wf_err *err);
void wf_arena_unmap(void *data, size_t size);

/* Gives the memory of a range back to the system, from the reader's side. */
void wf_arena_drop(int fd, uint64_t handle, size_t size);
