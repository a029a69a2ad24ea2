/* Compiled, never run, when the build looks for a working musl compiler: do its headers and the
 * kernel's go together? */
#include <linux/sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct clone_args args;
    memset(&args, 0, sizeof args);
    return argc > 1 ? (int)syscall(-1, argv, &args) : 0;
}
