/* The raw limit of any tool that forks one process per run: fork, _exit in the child, wait; nothing
 * else. Loaded with ctypes into a Python process whose heap is to be measured. cc -O2 -shared -fPIC
 * -o rawloop.so rawloop.c */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int wf_rawloop_run(uint64_t *ret_ns, int rounds);

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Times `rounds` of fork, _exit and wait into ret_ns[rounds]. Returns 0, or the errno of what
 * failed. The bare system call, so that no library's fork handlers are timed with it. */
int wf_rawloop_run(uint64_t *ret_ns, int rounds) {
    for (int i = 0; i < rounds; i++) {
        uint64_t start = now_ns();
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0)
            _exit(0);
        if (pid < 0)
            return errno;
        siginfo_t info;
        while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0)
            if (errno != EINTR)
                return errno;
        ret_ns[i] = now_ns() - start;
    }
    return 0;
}
