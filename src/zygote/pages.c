/* The pages that a run touches, so that standbys can copy or map them while nobody waits: 300 to
 * 500, at 1 us each instead of 2 to 4 in the middle of a run. The first worker of each zygote finds
 * out which: it is given a run of its own, real in everything, whose client is a child of it, and
 * lists what it owns or has mapped afterwards. What a worker touches while it makes ready is among
 * that, and costs a standby nothing: it has it by then. (Told apart by a look before the run, pages
 * that this look itself had touched were missing: 5 of them, of the stack and the interpreter's
 * state, at up to 10 us each. Its end runs the atexit callbacks that were inherited, once and for
 * nothing.) */
#include "zygote/zygote.h"

#include "base/io.h"
#include "channel/channel.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ /* Linux 5.14; older kernels refuse, and it is done when needed */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE_SIZE 4096u
#define PRESENT (1ull << 63)
#define EXCLUSIVE (1ull << 56) /* mapped by no other process: copied, or new */
#define LEARN_SECONDS 5
#define OWN_MAX 32768
#define READ_ONLY 1u /* in the address of a page that is mapped, but belongs to a file */

static struct {
    uintptr_t page[OWN_MAX];
    size_t count;
} own;

static size_t scan_range(int pagemap, uintptr_t from, uintptr_t to, bool writable, uintptr_t *out,
                         size_t count) {
    const uint64_t wanted = PRESENT | (writable ? EXCLUSIVE : 0);
    uint64_t entry[512];
    while (from < to) {
        size_t want = (to - from) / PAGE_SIZE < 512 ? (to - from) / PAGE_SIZE : 512;
        ssize_t got = pread(pagemap, entry, want * sizeof *entry,
                            (off_t)(from / PAGE_SIZE * sizeof *entry));
        if (got <= 0)
            break;
        for (size_t i = 0; i < (size_t)got / sizeof *entry; i++)
            if ((entry[i] & wanted) == wanted && count < OWN_MAX)
                out[count++] = (from + i * PAGE_SIZE) | (writable ? 0 : READ_ONLY);
        from += want * PAGE_SIZE;
    }
    return count;
}

/* The pages of private mappings, ascending: of writable ones those that are this process's alone,
 * of others those that are mapped. */
static size_t own_pages(uintptr_t *out) {
    char line[512], perms[8];
    unsigned long from, to;
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    while (maps != NULL && pagemap >= 0 && fgets(line, sizeof line, maps) != NULL)
        if (sscanf(line, "%lx-%lx %7s", &from, &to, perms) == 3 && perms[0] == 'r' &&
            perms[3] == 'p' && from < (unsigned long)INTPTR_MAX)
            count = scan_range(pagemap, from, to, perms[1] == 'w', out, count);
    if (maps != NULL)
        fclose(maps);
    wf_close(&pagemap);
    return count;
}

/* The client of that run: sends what the zygote was warmed with, and waits for the end. Forked
 * before the rehearsal, for a page that it shares is nobody's own. */
static _Noreturn void be_client(int connection) {
    static uint8_t room[WF_INLINE_MAX], bounds[WF_BOUNDS_MAX], storage[1024];
    static struct wf_message answer;
    struct wf_buf head, tail;
    struct wf_request r = zy.request;
    int fds[4];
    alarm(LEARN_SECONDS);
    for (int i = 0; i < 3; i++)
        fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
    fds[3] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    r.stdio = 7;
    r.fdnums.size = 0;
    r.bounded = false;
    wf_buf_init_fixed(&head, room, sizeof room);
    wf_buf_init_fixed(&tail, bounds, sizeof bounds);
    if (!wf_encode_request(&head, &r) || !wf_encode_bounds(&tail, &r))
        _exit(1);
    struct iovec iov[2] = { { head.data, head.size },
                            { (void *)(uintptr_t)r.strings.data, r.strings.size } };
    struct iovec rest = { tail.data, tail.size };
    if (wf_channel_send(connection, WF_RUN, 0, iov, 2, fds, 4, NULL) < 0 ||
        wf_channel_send(connection, WF_BOUNDS, 0, &rest, 1, NULL, 0, NULL) < 0)
        _exit(1);
    while (wf_channel_receive(connection, &answer, storage, sizeof storage, -1, NULL) > 0 &&
           answer.header.type != WF_EXITED)
        wf_message_done(&answer);
    _exit(0);
}

int zy_pages_client(void) {
    int pair[2];
    sigset_t set;
    signal(SIGALRM, SIG_DFL); /* a callback that hangs is nobody's loss */
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        _exit(0);
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        be_client(pair[1]);
    }
    close(pair[1]);
    alarm(LEARN_SECONDS);
    return wf_move_fd(pair[0], ZY_FD_BASE);
}

static bool inside(uintptr_t page, const void *object, size_t size) {
    return page + PAGE_SIZE > (uintptr_t)object && page < (uintptr_t)object + size;
}

void zy_pages_learn(void) {
    unsigned count = 0;
    own.count = own_pages(own.page);
    for (size_t i = 0; i < own.count && count < ZY_PAGES; i++)
        if (!inside(own.page[i], &own, sizeof own))
            zy.shared->page[count++] = own.page[i];
    atomic_store(&zy.shared->page_count, count);
}

void zy_pages_copy(void) {
    unsigned count = atomic_load(&zy.shared->page_count);
    const uintptr_t *page = zy.shared->page;
    for (unsigned i = 0, n; i < count; i += n) {
        for (n = 1; i + n < count && page[i + n] == page[i] + n * PAGE_SIZE; n++)
            ;
        madvise((void *)(page[i] & ~(uintptr_t)READ_ONLY), n * PAGE_SIZE,
                page[i] & READ_ONLY ? MADV_POPULATE_READ : MADV_POPULATE_WRITE);
    }
}
