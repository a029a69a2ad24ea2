/* futex(2) on words of shared memory, and the clock that all parts of a pool go by. */
#pragma once

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Sleeps while *word is `value`, at most `timeout_ns` (negative: for ever). 0, or -1 with EAGAIN,
 * EINTR, ETIMEDOUT. */
static inline int wf_futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t timeout_ns) {
    struct timespec timeout = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
    return (int)syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns < 0 ? NULL : &timeout, NULL,
                        0);
}

static inline void wf_futex_wake(_Atomic uint32_t *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

/* Changes the word, so that nobody who has read it before falls asleep, then wakes. */
static inline void wf_futex_ring(_Atomic uint32_t *word, int count) {
    atomic_fetch_add_explicit(word, 1, memory_order_seq_cst);
    wf_futex_wake(word, count);
}

/* Inside of a loop that waits for memory to change. */
static inline void wf_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline uint64_t wf_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
