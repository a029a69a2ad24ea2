#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIME_LIMIT_S = 60, PASSED = 0, FAILED = 1, SKIPPED = 77 };

static struct test *tests, **last = &tests;
static char dir[64];

void test_add(struct test *t) {
    *last = t;
    last = &t->next;
}

void test_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("# %s:%d: ", file, line);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    fflush(stdout);
    _exit(FAILED);
}

void test_skip(const char *why) {
    printf("# skipped: %s\n", why);
    fflush(stdout);
    _exit(SKIPPED);
}

bool test_same(const char *a, const char *b) { return strcmp(a, b) == 0; }

const char *test_dir(void) { return dir; }

int test_fork(int (*body)(void *arg), void *arg) {
    fflush(stdout);
    int pid = fork();
    if (pid == 0) {
        alarm(TIME_LIMIT_S);
        _exit(body(arg));
    }
    CHECK(pid > 0);
    return pid;
}

int test_wait(int pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        CHECK(errno == EINTR);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int test_count_fds(void) {
    int count = 0;
    DIR *fds = opendir("/proc/self/fd");
    CHECK(fds);
    while (readdir(fds))
        count++;
    closedir(fds);
    return count - 3; /* ".", ".." and the directory itself */
}

/* Runs in the test's own process. exit, not _exit: that is when the leak sanitizer looks. */
static void run_here(const struct test *t) {
    alarm(TIME_LIMIT_S);
    int fds = test_count_fds();
    t->run();
    CHECK_NUMBER(test_count_fds(), fds);
    if (waitpid(-1, NULL, WNOHANG) >= 0)
        test_fail(t->name, 0, "a child is left");
    exit(PASSED);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int run(const struct test *t) {
    strcpy(dir, "/tmp/wf-unit-XXXXXX");
    if (!mkdtemp(dir)) {
        printf("# mkdtemp %s: %s\n", dir, strerror(errno));
        return FAILED;
    }
    fflush(stdout);
    int pid = fork();
    if (pid == 0)
        run_here(t);
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    if (pid > 0 && WIFSIGNALED(status))
        printf("# killed by signal %d%s\n", WTERMSIG(status),
               WTERMSIG(status) == SIGALRM ? ": took too long" : "");
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
}

/* With arguments: only the tests of these names. */
int main(int argc, char **argv) {
    int count = 0, passed = 0, failed = 0, skipped = 0;
    signal(SIGPIPE, SIG_DFL); /* so that one we should not have got is noticed */
    for (struct test *t = tests; t; t = t->next) {
        bool wanted = argc < 2;
        for (int i = 1; i < argc; i++)
            wanted = wanted || test_same(argv[i], t->name);
        if (!wanted)
            continue;
        int result = run(t);
        printf("%s %d - %s%s\n", result == PASSED || result == SKIPPED ? "ok" : "not ok", ++count,
               t->name, result == SKIPPED ? " # SKIP" : "");
        passed += result == PASSED;
        skipped += result == SKIPPED;
        failed += result != PASSED && result != SKIPPED;
    }
    printf("1..%d\n# %d passed, %d failed, %d skipped\n", count, passed, failed, skipped);
    return failed > 0;
}
