/* The terminal of the caller, who is of another session. */
#include "zygote/terminal.h"

#include "base/io.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PTS_MAJOR 136 /* the first of eight */
#define CONSOLE_MAJOR 4

long zy_tty_control(int fd, unsigned long request, void *argument) {
    return syscall(SYS_ioctl, fd, request, argument);
}

unsigned zy_tty_device(int fd) {
    unsigned device = 0;
    return zy_tty_control(fd, WF_TTY_DEVICE, &device) == 0 ? device : 0;
}

int zy_tty_open(const char *path, int flags) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_NOCTTY | O_CLOEXEC);
}

void zy_caller_name(struct zy_caller *c, int fd) {
    char link[32];
    if (c->name[0] != '\0')
        return;
    wf_fmt(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, c->name, sizeof c->name - 1);
    c->name[size < 0 ? 0 : size] = '\0';
}

/* Fields 4 to 8 of the client's /proc/PID/stat. */
enum { PARENT, GROUP, SESSION, TERMINAL, FOREGROUND, FIELDS };

static bool read_stat(uint32_t client, long ret[FIELDS]) {
    char path[32], text[1024], *at;
    wf_fmt(path, sizeof path, "/proc/%u/stat", client);
    int fd = zy_tty_open(path, O_RDONLY);
    long size = fd < 0 ? -1 : syscall(SYS_read, fd, text, sizeof text - 1);
    wf_close(&fd);
    text[size < 0 ? 0 : size] = '\0';
    at = strrchr(text, ')'); /* the name may hold anything */
    if (at == NULL || strlen(at) < 4)
        return false;
    at += 3; /* behind the state */
    for (int i = 0; i < FIELDS; i++)
        ret[i] = strtol(at, &at, 10);
    return true;
}

int zy_caller_front(uint32_t client) {
    long stat[FIELDS];
    if (!read_stat(client, stat) || stat[FOREGROUND] <= 0)
        return -1;
    return stat[GROUP] == stat[FOREGROUND] ? 0 : (int)stat[FOREGROUND];
}

bool zy_caller_in_front(uint32_t client) { return zy_caller_front(client) == 0; }

/* Of another device the kernel says it, where /sys is. */
static void device_name(unsigned major, unsigned minor, char *ret, size_t size) {
    char path[48], text[512] = "", *at;
    wf_fmt(path, sizeof path, "/sys/dev/char/%u:%u/uevent", major, minor);
    int fd = zy_tty_open(path, O_RDONLY);
    if (fd >= 0 && syscall(SYS_read, fd, text, sizeof text - 1) > 0 &&
        (at = strstr(text, "DEVNAME=")) != NULL) {
        at += strlen("DEVNAME=");
        at[strcspn(at, "\n")] = '\0';
        wf_fmt(ret, size, "/dev/%s", at);
    }
    wf_close(&fd);
}

/* The name that follows from the device number: /dev/pts/N where that is pseudo-terminals. */
static void derive_name(struct zy_caller *c) {
    unsigned major = c->device >> 8 & 0xfff;
    unsigned minor = (c->device & 0xff) | (c->device >> 12 & 0xfff00);
    if (major >= PTS_MAJOR && major < PTS_MAJOR + 8)
        wf_fmt(c->name, sizeof c->name, "/dev/pts/%u", (major - PTS_MAJOR) * 256 + minor);
    else if (major == CONSOLE_MAJOR && minor < 64)
        wf_fmt(c->name, sizeof c->name, "/dev/tty%u", minor);
    else
        device_name(major, minor, c->name, sizeof c->name);
}

/* A number that is that of TIOCGDEV. */
static void seek(struct zy_caller *c, uint32_t client) {
    long stat[FIELDS];
    c->sought = true;
    if (!read_stat(client, stat) || stat[TERMINAL] == 0)
        return;
    c->device = (unsigned)stat[TERMINAL];
    derive_name(c);
    if (c->name[0] == '\0')
        c->device = 0;
}

int zy_caller_open(struct zy_caller *c, uint32_t client) {
    if (c->device == 0 && !c->sought)
        seek(c, client);
    if (c->device == 0)
        return -1;
    for (int fd = 0; fd < 3; fd++)
        if (zy_tty_device(fd) == c->device)
            return fd;
    /* The program has closed or moved them: opened anew, by name. */
    if (c->name[0] == '\0')
        derive_name(c);
    int fd = c->name[0] == '\0' ? -1 : zy_tty_open(c->name, O_RDWR);
    if (fd >= 0 && zy_tty_device(fd) != c->device)
        wf_close(&fd);
    return fd;
}
