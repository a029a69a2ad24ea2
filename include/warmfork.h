/* warmfork: run python programs in processes forked from a warm interpreter.
 *
 *     struct warmfork_program program = WARMFORK_PROGRAM_INIT;
 *     struct warmfork_error error;
 *     struct warmfork_end end;
 *     warmfork_run *run;
 *     program.argv = (char *const[]){"python3", "-c", "print(6 * 7)", NULL};
 *     switch (warmfork_start(&program, &run, &error)) {
 *     case WARMFORK_STARTED: warmfork_wait(run, -1, &end, &error); warmfork_free(run); break;
 *     case WARMFORK_COLD:    posix_spawn the interpreter yourself: nothing has run, error.text says
 * why; break; default:               the program cannot be run: error.text says why
 *     }
 *
 * Thread-safe as long as each run is used by one thread at a time. No signal handlers, no threads,
 * no global state. Descriptors that the library opens are close-on-exec. Text in errors is in
 * English and names the call and the object. */
#ifndef WARMFORK_H
#define WARMFORK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct warmfork_run warmfork_run;

struct warmfork_error {
    int code; /* errno of the call that failed, or 0 */
    char text[320];
};

struct warmfork_program {
    size_t size;        /* sizeof(struct warmfork_program), as WARMFORK_PROGRAM_INIT sets it */
    const char *python; /* path of the interpreter; NULL: chosen as warmpy does */
    char *const *argv;  /* NULL-terminated, as for python: its name, its options, the program, the
                           arguments */
    char *const *envp;  /* NULL-terminated; NULL: the caller's. WARMFORK_PRELOAD and WARMFORK_ZYGOTE
                           in it count. */
    int cwd_fd;         /* working directory; -1: the caller's */
    const int *fds;     /* descriptors for the program: fds[i] becomes number fd_numbers[i] */
    const int *fd_numbers; /* NULL: fds[i] becomes number i */
    size_t
        nfds; /* 0 with fds NULL: 0, 1 and 2 and all of the caller's that are not close-on-exec */
};
#define WARMFORK_PROGRAM_INIT                                                                      \
    { sizeof(struct warmfork_program), NULL, NULL, NULL, -1, NULL, NULL, 0 }

enum warmfork_started { WARMFORK_ERROR = -1, WARMFORK_STARTED = 0, WARMFORK_COLD = 1 };
enum warmfork_kind { WARMFORK_RUNNING = 0, WARMFORK_EXITED = 1, WARMFORK_SIGNALED = 2 };

struct warmfork_end {
    int kind;  /* enum warmfork_kind */
    int value; /* exit status, or the signal */
    int core;  /* a core was dumped */
};

/* Starts the program. WARMFORK_STARTED: *ret_run owns it. WARMFORK_COLD: it has not run, and python
 * itself would run it; a zygote has been asked for where that makes sense, starting the daemon if
 * need be. WARMFORK_ERROR: bad arguments, or no interpreter. Everything in `program` stays the
 * caller's and is not needed after the call. */
enum warmfork_started warmfork_start(const struct warmfork_program *program, warmfork_run **ret_run,
                                     struct warmfork_error *error);

/* Process of the program, and a pidfd of it (owned by the run; -1 if there was no free descriptor).
 */
pid_t warmfork_pid(const warmfork_run *run);
int warmfork_pidfd(const warmfork_run *run);

/* Sends a signal to the program. 0, or -1 with `error` filled (ESRCH: it has ended). */
int warmfork_signal(warmfork_run *run, int sig, struct warmfork_error *error);

/* Waits for the end, at most `timeout_ms` (-1: for ever). 0: `ret_end` is filled; its kind is
 * WARMFORK_RUNNING when the time is over. -1: `error`. May be called again after the end. */
int warmfork_wait(warmfork_run *run, int timeout_ms, struct warmfork_end *ret_end,
                  struct warmfork_error *error);

/* Releases the run (NULL is allowed). A program that is still running is killed. */
void warmfork_free(warmfork_run *run);

/* Where cold runs find the interpreter: the path that warmfork_start chose, or would choose, for
 * this environment. Returns its length, or -1 with `error` filled when there is none or it does not
 * fit. */
ssize_t warmfork_python(char *const *envp, char *ret_path, size_t size,
                        struct warmfork_error *error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
