/* What getdents64 fills a buffer with: for directories read on the way of a run, where opendir's
 * allocations and its stat are too much. */
#pragma once

#include <stdint.h>

struct wf_dirent {
    uint64_t ino;
    int64_t off;
    uint16_t size; /* of this entry: the next one follows */
    uint8_t type;
    char name[];
};
