/* spawnbench: how long a program takes from posix_spawn until it is reaped.
 *
 *     spawnbench GAP_US ROUNDS SEED COMMAND_FILE...
 *
 * Each round runs every command once, in a fresh random order, so that all of them see the same
 * weather on the machine; after each command it sleeps GAP_US. A command file is a sequence of
 * NUL-terminated strings: the number of arguments, the arguments, then the environment. The
 * children have /dev/null as stdin, stdout and stderr.
 *
 * Prints one line per run, in the order of the runs: "COMMAND NANOSECONDS STATUS" (COMMAND counts
 * from 0; STATUS is the exit code, or 128 + the signal), then "elapsed NANOSECONDS" for the whole.
 * Samples are kept in memory and printed at the end. Nothing is pinned and no priority is changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct command {
    char *text;  /* the whole file */
    char **argv; /* both into text, NULL-terminated */
    char **envp;
};

struct sample {
    int command, status;
    uint64_t ns;
};

static FILE *messages; /* stderr, which the children do not get */

static _Noreturn void fail(const char *call, const char *object) {
    fprintf(messages, "spawnbench: %s %s: %s\n", call, object, strerror(errno));
    exit(2);
}

static _Noreturn void refuse(const char *object, const char *why) {
    fprintf(messages, "spawnbench: %s: %s\n", object, why);
    exit(2);
}

static void *get_memory(size_t count, size_t size) {
    void *block = calloc(count ? count : 1, size);
    if (!block)
        fail("calloc", "memory");
    return block;
}

static unsigned long parse_number(const char *text, const char *name) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || end == text || *end)
        refuse(name, "not a number");
    return value;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* xorshift64*: the order of commands needs no better. */
static uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717u;
}

static void shuffle(unsigned *order, unsigned count, uint64_t *state) {
    for (unsigned i = count; i > 1; i--) {
        unsigned j = (unsigned)(next_random(state) >> 33) % i;
        unsigned kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
}

static char *read_whole(const char *path, size_t *ret_size) {
    FILE *file = fopen(path, "rbe");
    struct stat st;
    if (!file)
        fail("open", path);
    if (fstat(fileno(file), &st) < 0)
        fail("fstat", path);
    char *text = get_memory((size_t)st.st_size + 1, 1);
    *ret_size = fread(text, 1, (size_t)st.st_size, file);
    if (ferror(file))
        fail("read", path);
    fclose(file);
    return text;
}

static struct command read_command(const char *path) {
    size_t size, strings = 0;
    char *text = read_whole(path, &size);
    if (!size || text[size - 1])
        refuse(path, "must be NUL-terminated strings");
    for (size_t i = 0; i < size; i++)
        strings += !text[i];
    size_t argc = parse_number(text, path);
    if (!argc || argc > strings - 1)
        refuse(path, "fewer arguments than declared");
    size_t envc = strings - 1 - argc;
    struct command c = { .text = text,
                         .argv = get_memory(argc + 1, sizeof(char *)),
                         .envp = get_memory(envc + 1, sizeof(char *)) };
    char *at = text + strlen(text) + 1;
    for (size_t i = 0; i < argc + envc; i++, at += strlen(at) + 1) {
        if (i < argc)
            c.argv[i] = at;
        else
            c.envp[i - argc] = at;
    }
    return c;
}

static struct sample run_one(const struct command *c, int index) {
    siginfo_t info = { 0 };
    pid_t pid;
    uint64_t start = now_ns();
    int code = posix_spawn(&pid, c->argv[0], NULL, NULL, c->argv, c->envp);
    if (code) {
        errno = code;
        fail("posix_spawn", c->argv[0]);
    }
    while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0)
        if (errno != EINTR)
            fail("waitid", c->argv[0]);
    uint64_t end = now_ns();
    int status = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    return (struct sample){ .command = index, .status = status, .ns = end - start };
}

static void sleep_us(unsigned long us) {
    struct timespec left = { .tv_sec = (time_t)(us / 1000000),
                             .tv_nsec = (long)(us % 1000000) * 1000 };
    while (us && nanosleep(&left, &left) < 0 && errno == EINTR)
        continue;
}

/* Points 0-2 at /dev/null, which the children inherit (no file actions that would be timed with
 * them), and returns the former stdout; the former stderr becomes `messages`. Both are
 * close-on-exec. */
static FILE *hide_stdio(void) {
    int out = fcntl(1, F_DUPFD_CLOEXEC, 10), log = fcntl(2, F_DUPFD_CLOEXEC, 10);
    if (out < 0 || log < 0)
        fail("fcntl", "stdout and stderr");
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        fail("open", "/dev/null");
    FILE *output = fdopen(out, "w"), *errors = fdopen(log, "w");
    if (!output || !errors)
        fail("fdopen", "stdout and stderr");
    messages = errors;
    for (int fd = 0; fd <= 2; fd++)
        if (dup2(null, fd) < 0)
            fail("dup2", "/dev/null");
    if (null > 2)
        close(null);
    return output;
}

int main(int argc, char **argv) {
    messages = stderr;
    if (argc < 5)
        refuse("usage", "spawnbench GAP_US ROUNDS SEED COMMAND_FILE...");
    unsigned long gap = parse_number(argv[1], "GAP_US"), rounds = parse_number(argv[2], "ROUNDS");
    uint64_t seed = parse_number(argv[3], "SEED") * 2654435769u + 1;
    unsigned count = (unsigned)argc - 4;
    struct command *commands = get_memory(count, sizeof *commands);
    unsigned *order = get_memory(count, sizeof *order);
    struct sample *samples = get_memory(count * rounds, sizeof *samples);

    signal(SIGCHLD, SIG_DFL); /* an inherited SIG_IGN would reap the children before waitid */
    for (unsigned i = 0; i < count; i++) {
        commands[i] = read_command(argv[4 + i]);
        order[i] = i;
    }
    memset(samples, 0xff, count * rounds * sizeof *samples); /* no page fault while measuring */
    FILE *out = hide_stdio();
    size_t done = 0;
    uint64_t start = now_ns();
    for (unsigned long round = 0; round < rounds; round++) {
        shuffle(order, count, &seed);
        for (unsigned i = 0; i < count; i++) {
            samples[done++] = run_one(&commands[order[i]], (int)order[i]);
            sleep_us(gap);
        }
    }
    uint64_t elapsed = now_ns() - start;
    for (size_t i = 0; i < done; i++)
        fprintf(out, "%d %llu %d\n", samples[i].command, (unsigned long long)samples[i].ns,
                samples[i].status);
    fprintf(out, "elapsed %llu\n", (unsigned long long)elapsed);
    if (fclose(out))
        fail("write", "stdout");
    return 0;
}
