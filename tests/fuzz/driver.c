/* Runs a fuzz target without libFuzzer: replays files and directories, and with --mutate N goes on
 * with N inputs made from them by chance, the same ones every time.
 *
 *     fuzz_request [--mutate N] [--seed S] [--save FILE] CORPUS…
 *
 * --save writes the input that made the target abort to FILE; sanitizers abort with
 * ASAN_OPTIONS=abort_on_error=1 UBSAN_OPTIONS=abort_on_error=1. */
#include "fuzz.h"

#include "base/io.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_MAX (256u << 10)
#define ENTRIES_MAX 4096

struct input {
    uint8_t *data;
    size_t size;
};

static struct input corpus[ENTRIES_MAX];
static size_t corpus_count;
static struct input current;
static const char *save_path;
static uint64_t random_state = 1;

static uint32_t chance(uint32_t below) { /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return below ? (uint32_t)((random_state * 0x2545f4914f6cdd1du) >> 32) % below : 0;
}

/* On abort: only calls that a signal handler may make. */
static void save_current(int signal_number) {
    int fd = open(save_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    wf_write_full(fd, current.data, current.size);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void try(const uint8_t *data, size_t size) {
    uint8_t *exact = malloc(size ? size : 1); /* so that a sanitizer sees a byte read beyond */
    if (!exact)
        abort();
    memcpy(exact, data, size);
    current = (struct input){ exact, size };
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static int load(const char *path);

static int load_dir(const char *path) {
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort), failed = count < 0;
    if (failed)
        fprintf(stderr, "scandir %s: %s\n", path, strerror(errno));
    for (int i = 0; i < count; i++) {
        char below[4096];
        snprintf(below, sizeof below, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && load(below) < 0)
            failed = 1;
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    return failed ? -1 : 0;
}

static int load(const char *path) {
    struct stat st;
    char *data;
    size_t size;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return load_dir(path);
    if (corpus_count == ENTRIES_MAX || wf_read_file(AT_FDCWD, path, INPUT_MAX, &data, &size) < 0) {
        fprintf(stderr, "read %s: %s\n", path, strerror(errno));
        return -1;
    }
    corpus[corpus_count++] = (struct input){ (uint8_t *)data, size };
    return 0;
}

static void put_number(uint8_t *data, size_t size) {
    static const uint32_t odd[] = { 0,          1,          3,          4,
                                    0x7f,       0xff,       0x100,      0x7fff,
                                    0xffff,     0x10000,    0x100001,   0x1000001,
                                    0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff };
    size_t width = (size_t)1 << chance(3), at = chance((uint32_t)size);
    uint32_t value = odd[chance(sizeof odd / sizeof odd[0])];
    if (chance(4) == 0)
        value = (uint32_t)size - chance(16); /* near the truth */
    for (size_t i = 0; i < width && at + i < size; i++)
        data[at + i] = (uint8_t)(value >> (8 * i));
}

/* Moves everything from `at` on by `count` bytes, backwards when it is negative. */
static size_t shift(uint8_t *data, size_t size, size_t at, long count) {
    if (count < 0) {
        size_t gone = (size_t)-count < size - at ? (size_t)-count : size - at;
        memmove(data + at, data + at + gone, size - at - gone);
        return size - gone;
    }
    size_t more = (size_t)count < INPUT_MAX - size ? (size_t)count : INPUT_MAX - size;
    memmove(data + at + more, data + at, size - at);
    for (size_t i = 0; i < more; i++)
        data[at + i] = (uint8_t)chance(256);
    return size + more;
}

static size_t mutate(uint8_t *data, size_t size) {
    const struct input *other = &corpus[chance((uint32_t)corpus_count)];
    size_t at = chance((uint32_t)size + 1), from = chance((uint32_t)other->size + 1);
    switch (chance(size ? 7 : 1)) {
    case 0:
        return shift(data, size, at, chance(2) ? 1 : 1 + (long)chance(64));
    case 1:
        return shift(data, size, at, chance(2) ? -1 : -1 - (long)chance(64));
    case 2:
        data[chance((uint32_t)size)] ^= (uint8_t)(1u << chance(8));
        return size;
    case 3:
        data[chance((uint32_t)size)] = (uint8_t)chance(256);
        return size;
    case 4:
    case 5:
        put_number(data, size);
        return size;
    default: /* this one's beginning with that one's end */
        if (other->size - from > INPUT_MAX - at)
            return at;
        memcpy(data + at, other->data + from, other->size - from);
        return at + other->size - from;
    }
}

static void mutate_many(unsigned long count) {
    static uint8_t work[INPUT_MAX];
    for (unsigned long i = 0; i < count; i++) {
        const struct input *base = &corpus[chance((uint32_t)corpus_count)];
        size_t size = base->size;
        memcpy(work, base->data, size);
        for (uint32_t steps = 1 + chance(6); steps > 0; steps--)
            size = mutate(work, size);
        try(work, size);
    }
}

int main(int argc, char **argv) {
    unsigned long count = 0;
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--mutate") == 0 && i + 1 < argc)
            count = strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            random_state = strtoul(argv[++i], NULL, 10) * 2 + 1;
        else if (strcmp(argv[i], "--save") == 0 && i + 1 < argc)
            save_path = argv[++i];
        else
            failed |= load(argv[i]) < 0;
    }
    if (save_path)
        signal(SIGABRT, save_current);
    if (corpus_count == 0) {
        fprintf(stderr, "usage: %s [--mutate N] [--seed S] [--save FILE] CORPUS...\n", argv[0]);
        return 2;
    }
    for (size_t i = 0; i < corpus_count; i++)
        try(corpus[i].data, corpus[i].size);
    mutate_many(count);
    printf("%zu inputs replayed, %lu mutated\n", corpus_count, count);
    for (size_t i = 0; i < corpus_count; i++)
        free(corpus[i].data);
    return failed;
}
