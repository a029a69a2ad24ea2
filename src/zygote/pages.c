/* The pages that the end of a program writes to: joining threads and running the atexit callbacks
 * that were inherited cannot be rehearsed in a standby, because they can be done only once; so one
 * worker of each zygote does them for nothing, and lists the pages that it thereby made its own.
 * Standbys copy those pages ahead (20 to 70 of them, 2 us each). */
#include "zygote/zygote.h"

#include "base/io.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE                                                                        \
    23 /* Linux 5.14; older kernels refuse it, and the pages are copied when needed */
#endif

#define PAGE_SIZE 4096u
#define PRESENT (1ull << 63)
#define EXCLUSIVE (1ull << 56) /* mapped by no other process: copied, or new */
#define LEARN_SECONDS 5
#define OWN_MAX 16384

static uintptr_t before[OWN_MAX], after[OWN_MAX];

static size_t scan_range(int pagemap, uintptr_t from, uintptr_t to, uintptr_t *out, size_t count) {
    uint64_t entry[512];
    while (from < to) {
        size_t want = (to - from) / PAGE_SIZE < 512 ? (to - from) / PAGE_SIZE : 512;
        ssize_t got = pread(pagemap, entry, want * sizeof *entry,
                            (off_t)(from / PAGE_SIZE * sizeof *entry));
        if (got <= 0)
            break;
        for (size_t i = 0; i < (size_t)got / sizeof *entry; i++)
            if ((entry[i] & PRESENT) && (entry[i] & EXCLUSIVE) && count < OWN_MAX)
                out[count++] = from + i * PAGE_SIZE;
        from += want * PAGE_SIZE;
    }
    return count;
}

/* The pages of private writable mappings that are this process's alone, ascending. */
static size_t own_pages(uintptr_t *out) {
    char line[512], perms[8];
    unsigned long from, to;
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    while (maps != NULL && pagemap >= 0 && fgets(line, sizeof line, maps) != NULL)
        if (sscanf(line, "%lx-%lx %7s", &from, &to, perms) == 3 && strcmp(perms, "rw-p") == 0)
            count = scan_range(pagemap, from, to, out, count);
    if (maps != NULL)
        fclose(maps);
    wf_close(&pagemap);
    return count;
}

bool zy_pages_wanted(unsigned slot) {
    int unknown = 0;
    if (!atomic_compare_exchange_strong(&zy.shared->pages_known, &unknown, 1))
        return false;
    atomic_store(&zy.shared->state[slot], ZY_TAKEN); /* its end is no early death */
    return true;
}

_Noreturn void zy_pages_learn(void) {
    sigset_t set;
    signal(SIGALRM, SIG_DFL); /* a callback that hangs is nobody's loss */
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    alarm(LEARN_SECONDS);
    size_t had = own_pages(before), i = 0;
    zy_finish_inherited();
    size_t has = own_pages(after);
    unsigned count = 0;
    for (size_t k = 0; k < has && count < ZY_PAGES; k++) {
        while (i < had && before[i] < after[k])
            i++;
        bool outside = after[k] < (uintptr_t)before || after[k] >= (uintptr_t)(before + OWN_MAX);
        outside = outside &&
                  (after[k] < (uintptr_t)after || after[k] >= (uintptr_t)(after + OWN_MAX));
        if (outside && (i == had || before[i] != after[k]))
            zy.shared->page[count++] = after[k];
    }
    atomic_store(&zy.shared->page_count, count);
    _exit(0);
}

void zy_pages_copy(void) {
    unsigned count = atomic_load(&zy.shared->page_count);
    for (unsigned i = 0; i < count; i++)
        madvise((void *)zy.shared->page[i], PAGE_SIZE, MADV_POPULATE_WRITE);
}
