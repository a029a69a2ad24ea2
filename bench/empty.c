/* The empty program: what it costs to start and reap any process at all. No libc, no dynamic
 * linker. Built with -static -nostdlib -ffreestanding. */
#include <sys/syscall.h>

__attribute__((noreturn, used)) void wf_empty_start(void);

__asm__(".globl _start\n_start:\n"
#if defined(__x86_64__)
        "xor %edi, %edi\n"
        "call wf_empty_start\n"
#elif defined(__aarch64__)
        "bl wf_empty_start\n"
#else
#error "empty.c: write the first instructions for this machine"
#endif
);

void wf_empty_start(void) {
    for (;;) {
#if defined(__x86_64__)
        __asm__ volatile("syscall" : : "a"(SYS_exit_group), "D"(0) : "rcx", "r11", "memory");
#else
        register long status __asm__("x0") = 0;
        register long number __asm__("x8") = SYS_exit_group;
        __asm__ volatile("svc 0" : : "r"(status), "r"(number) : "memory");
#endif
    }
}
