/* From the kernel to main, and back. */
#include "client/mini/mini.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv, char **envp);
_Noreturn void mini_start(long *stack);

char **environ;
static int errno_now;

int *__errno_location(void) { return &errno_now; }

#if defined __x86_64__
__asm__(".text\n.global _start\n.type _start,@function\n_start:\n"
        "xor %ebp, %ebp\n"
        "mov %rsp, %rdi\n"
        "and $-16, %rsp\n"
        "call mini_start\n");
#elif defined __aarch64__
__asm__(".text\n.global _start\n.type _start,%function\n_start:\n"
        "mov x29, #0\n"
        "mov x30, #0\n"
        "mov x0, sp\n"
        "and sp, x0, #-16\n"
        "b mini_start\n");
#endif

/* `stack` is how the kernel leaves it: argc, argv…, NULL, envp…, NULL, the auxiliary vector. */
_Noreturn void mini_start(long *stack) {
    int argc = (int)stack[0];
    char **argv = (char **)(stack + 1);
    environ = argv + argc + 1;
    exit(main(argc, argv, environ));
}

void _exit(int status) {
    for (;;)
        mini_call6(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

/* There is nothing to flush and nothing registered. */
void exit(int status) { _exit(status); }

char *getenv(const char *name) {
    size_t size = strlen(name);
    for (char **entry = environ; entry && *entry; entry++) {
        if (strncmp(*entry, name, size) == 0 && (*entry)[size] == '=')
            return *entry + size + 1;
    }
    return NULL;
}
