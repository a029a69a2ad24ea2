#include "client/keeper.h"

#include "base/io.h"
#include "base/terminal.h"
#include "client/signals.h"
#include "client/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CLIENT, READY, MASTER, REAL };

/* The member of the program's group that makes us its parent. It sleeps; every signal that the
 * group gets is blocked. */
static void start_member(int group) {
    int keeper = getpid();
    int child = wf_spawn_fork();
    if (child > 0)
        syscall(SYS_setpgid, child, group); /* before anybody goes on */
    if (child != 0)
        return;
    prctl(PR_SET_PDEATHSIG, (long)SIGKILL, 0L, 0L, 0L);
    prctl(PR_SET_NAME, (long)(uintptr_t)WF_MEMBER_NAME, 0L, 0L, 0L);
    if (syscall(SYS_getppid) != keeper)
        _exit(1);
    syscall(SYS_close_range, 0, ~0u, 0);
    for (;;)
        syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
}

/* The first command, and the two descriptors that come with it. */
static bool receive_first(char *ret_command) {
    union {
        char space[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control;
    int fds[2] = { -1, -1 };
    struct iovec part = { ret_command, 1 };
    struct msghdr msg = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    ssize_t got;
    do
        got = recvmsg(CLIENT, &msg, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    struct cmsghdr *c = got == 1 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
        c->cmsg_len != CMSG_LEN(sizeof fds))
        return false;
    memcpy(fds, CMSG_DATA(c), sizeof fds);
    return fds[0] == MASTER && fds[1] == REAL; /* nothing else is open */
}

static void set_foreground(int group) { ioctl(MASTER, WF_TTY_SET_GROUP, &group); }

int wf_keeper_main(void) {
    struct wf_modes modes;
    bool raw = false, first = true;
    char command;
    uint8_t sig;
    wf_signals_block();
    int self = getpid(), group = (int)syscall(SYS_getsid, 0);
    start_member(group);
    if (write(READY, "", 1) < 0)
        return 1;
    if (!receive_first(&command))
        return 1;
    do {
        /* The group begins there. A program that has ended meanwhile has put us there instead. */
        if (command == WF_KEEPER_FOREGROUND && !first)
            set_foreground(group);
        else if (command == WF_KEEPER_BACKGROUND)
            set_foreground(self);
        else if (command == WF_KEEPER_CONTINUE) {
            syscall(SYS_kill, -group, SIGCONT);
            send(CLIENT, &command, 1, MSG_NOSIGNAL);
        } else if (command == WF_KEEPER_KILL && wf_read_full(CLIENT, &sig, 1) == 1) {
            set_foreground(self);
            syscall(SYS_kill, group, (int)sig);
        } else if (command == WF_KEEPER_RAW || command == WF_KEEPER_RESTORED)
            raw = command == WF_KEEPER_RAW;
        if (first)
            wf_write_full(READY, &command, 1); /* to nobody, for a program in the foreground */
        first = false;
    } while (wf_read_full(CLIENT, &command, 1) == 1);
    if (raw && ioctl(MASTER, WF_TTY_MODES, &modes) == 0)
        ioctl(REAL, WF_TTY_SET_MODES, &modes);
    return 0;
}
