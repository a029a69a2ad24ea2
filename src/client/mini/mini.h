/* A C library of our own, for warmpy alone, on machines without musl: only what its sources use, no
 * locale, no threads, no stdio, nothing to initialise, and so nothing to pay at start. It is
 * compiled against the system's own C headers, whose types and prototypes it fulfils;
 * <asm/unistd.h> has the numbers.
 *
 * Without threads errno is a plain variable, and without dynamic linking there is nothing between
 * _start and main. */
#pragma once

#include <errno.h>
#include <sys/syscall.h>

/* Makes a system call; returns what the kernel returned: a result, or -errno in -4095..-1. */
static inline long mini_call6(long number, long a, long b, long c, long d, long e, long f) {
#if defined __x86_64__
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
#elif defined __aarch64__
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
#else
#error "not ported to this processor: configure with -Dclient=dynamic"
#endif
}

/* The C convention: -1 and errno for what the kernel reports as -errno. */
static inline long mini_result(long ret) {
    if ((unsigned long)ret >= -4095UL) {
        errno = (int)-ret;
        return -1;
    }
    return ret;
}

#define MINI_PICK(a, b, c, d, e, f, g, name, ...) name
#define MINI_CALL(...)                                                                             \
    mini_result(MINI_PICK(__VA_ARGS__, MINI_6, MINI_5, MINI_4, MINI_3, MINI_2, MINI_1,             \
                          MINI_0, )(__VA_ARGS__))
#define MINI_6(n, a, b, c, d, e, f)                                                                \
    mini_call6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define MINI_5(n, a, b, c, d, e) MINI_6(n, a, b, c, d, e, 0)
#define MINI_4(n, a, b, c, d) MINI_5(n, a, b, c, d, 0)
#define MINI_3(n, a, b, c) MINI_4(n, a, b, c, 0)
#define MINI_2(n, a, b) MINI_3(n, a, b, 0)
#define MINI_1(n, a) MINI_2(n, a, 0)
#define MINI_0(n) MINI_1(n, 0)
