/* A pseudo-terminal in the place of the caller's terminal. */
#include "zygote/terminal.h"

#include "base/dirent.h"
#include "base/io.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CARRIED_OVER (O_ACCMODE | O_NONBLOCK | O_APPEND) /* of the descriptor that is replaced */

static int high(int fd) { return fd < 0 ? fd : wf_move_fd(fd, ZY_FD_BRIEF); }

static int open_slave(int master, int flags) {
    return (int)zy_tty_control(master, WF_TTY_PEER,
                               (void *)(uintptr_t)(unsigned)(flags | O_NOCTTY | O_CLOEXEC));
}

bool zy_pty_make(struct zy_pty *p, int real) {
    int unlock = 0;
    unsigned number;
    uint16_t size[4];
    *p = (struct zy_pty){ .real = fcntl(real, F_DUPFD_CLOEXEC, ZY_FD_BRIEF), .slave = -1 };
    p->master = high(zy_tty_open(WF_DEV_PTMX, O_RDWR));
    if (p->real < 0 || p->master < 0 || zy_tty_control(p->master, WF_TTY_UNLOCK, &unlock) < 0 ||
        zy_tty_control(p->master, WF_TTY_NUMBER, &number) < 0)
        return false;
    p->slave = high(open_slave(p->master, O_RDWR));
    if (p->slave < 0 || zy_tty_control(p->real, WF_TTY_MODES, &p->modes) < 0 ||
        zy_tty_control(p->slave, WF_TTY_SET_MODES, &p->modes) < 0)
        return false;
    if (zy_tty_control(p->real, WF_TTY_SIZE, size) == 0)
        zy_tty_control(p->slave, WF_TTY_SET_SIZE, size);
    wf_fmt(p->name, sizeof p->name, "/dev/pts/%u", number);
    return true;
}

void zy_pty_done(struct zy_pty *p) {
    wf_close(&p->real);
    wf_close(&p->master);
    wf_close(&p->slave);
}

/* One descriptor: with its access mode, its flags and its number. */
static void replace(const struct zy_pty *p, int fd) {
    int flags = fcntl(fd, F_GETFL), own = fcntl(fd, F_GETFD), as = p->slave;
    if (flags < 0 || own < 0 || (flags & O_PATH))
        return;
    if ((flags & CARRIED_OVER) != O_RDWR)
        as = open_slave(p->master, flags & CARRIED_OVER);
    if (as >= 0)
        syscall(SYS_dup3, as, fd, own & FD_CLOEXEC ? O_CLOEXEC : 0);
    if (as >= 0 && as != p->slave)
        wf_close(&as);
}

void zy_pty_replace(const struct zy_pty *p, unsigned device) {
    _Alignas(8) char buffer[4096];
    long got;
    int dir = high(zy_tty_open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
    while ((got = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < got;) {
            const struct wf_dirent *d = (const void *)(buffer + at);
            int fd = 0;
            for (const char *c = d->name; *c >= '0' && *c <= '9'; c++)
                fd = fd * 10 + (*c - '0');
            if (d->name[0] != '.' && fd != p->real && zy_tty_device(fd) == device)
                replace(p, fd);
            at += d->size;
        }
    }
    wf_close(&dir);
}
