/* Open descriptors: what each is, which rights it carries, and which locks hang on it. */
#include "audit/probe.h"

#include "base/io.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names that /proc/self/fd gives to what is no file; a prefix each. */
static const struct {
    const char *prefix;
    enum wa_kind kind;
    const char *detail;
} named[] = {
    { "anon_inode:[eventpoll]", WA_EPOLL, "" },
    { "anon_inode:inotify", WA_INOTIFY, "inotify" },
    { "anon_inode:[fanotify]", WA_INOTIFY, "fanotify" },
    { "anon_inode:[io_uring]", WA_IO_URING, "" },
    { "anon_inode:[timerfd]", WA_TIMERFD, "" },
    { "anon_inode:bpf", WA_PRIVILEGED, "bpf" },
    { "anon_inode:kvm", WA_PRIVILEGED, "virtual machines" },
    { "anon_inode:[perf_event]", WA_PRIVILEGED, "performance events" },
    { "anon_inode:[userfaultfd]", WA_PRIVILEGED, "page faults of this process" },
    { "anon_inode:seccomp", WA_PRIVILEGED, "system calls of another process" },
    { "/dev/nvidia", WA_GPU, "CUDA" },
    { "/dev/kfd", WA_GPU, "ROCm" },
    { "/dev/dri/", WA_GPU, "DRM" },
    { "/dev/mem", WA_PRIVILEGED, "physical memory" },
    { "/dev/kmem", WA_PRIVILEGED, "the kernel's memory" },
    { "/dev/port", WA_PRIVILEGED, "I/O ports" },
    { "/dev/kvm", WA_PRIVILEGED, "virtual machines" },
    { "/dev/fuse", WA_PRIVILEGED, "a file system" },
    { "/dev/net/tun", WA_PRIVILEGED, "a network interface" },
    { "/dev/uinput", WA_PRIVILEGED, "input devices" },
    { "/dev/vfio", WA_PRIVILEGED, "devices" },
};

static const char *access_mode(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags & O_PATH)
        return "path";
    return (flags & O_ACCMODE) == O_RDONLY ? "read" : "write";
}

/* Opened when the process could still do so: by its own rights it could not any more. */
static bool outlives_rights(int fd, int fds, const char *number) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_PATH))
        return false;
    int mode = flags & O_ACCMODE;
    int need = mode == O_RDONLY ? R_OK : mode == O_WRONLY ? W_OK : R_OK | W_OK;
    return faccessat(fds, number, need, AT_EACCESS) < 0 && errno == EACCES;
}

/* "lock:\t1: FLOCK  ADVISORY  WRITE 1234 ..." */
static void locks_of(const struct wa_sink *sink, int fd, const char *name) {
    char path[48], text[2048];
    wf_fmt(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    if (wf_read_text(AT_FDCWD, path, text, sizeof text) < 0) {
        struct wf_err err;
        wf_err_sys(&err, "read", path);
        if (err.code != ENOENT)
            wa_say(sink, WA_UNSEEN, WA_PROBE_DESCRIPTORS, "file locks", err.text);
        return;
    }
    for (const char *line = text; (line = strstr(line, "lock:")) != NULL; line += 5) {
        size_t length = strcspn(line, "\n");
        const char *flock = memmem(line, length, "FLOCK", 5);
        const char *ofd = memmem(line, length, "OFDLCK", 6);
        const char *posix = memmem(line, length, "POSIX", 5);
        if (flock || ofd || posix)
            wa_say(sink, WA_FILE_LOCK, fd, name, flock ? "flock" : ofd ? "ofd" : "posix");
    }
}

static bool say_named(const struct wa_sink *sink, int fd, const char *name) {
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (strncmp(name, named[i].prefix, strlen(named[i].prefix)) == 0) {
            wa_say(sink, named[i].kind, fd, name, named[i].detail);
            return true;
        }
    }
    return false;
}

static int look_at(void *arg, int fds, long number) {
    const struct wa_sink *sink = arg;
    char text[24], name[512];
    struct stat st;
    int fd = (int)number;
    wf_fmt(text, sizeof text, "%d", fd);
    ssize_t size = readlinkat(fds, text, name, sizeof name - 1);
    name[size < 0 ? 0 : size] = '\0';
    if (fstat(fd, &st) < 0) {
        if (errno != EBADF) { /* EBADF: another thread has closed it meanwhile */
            struct wf_err err;
            wf_err_sys(&err, "fstat", name);
            wa_say(sink, WA_UNSEEN, WA_PROBE_DESCRIPTORS, "descriptors", err.text);
        }
        return 0;
    }
    if (S_ISSOCK(st.st_mode)) {
        wa_socket(sink, fd);
    } else if (say_named(sink, fd, name)) {
        ;
    } else if (S_ISBLK(st.st_mode)) {
        wa_say(sink, WA_PRIVILEGED, fd, name, "a block device");
    } else if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
        wa_say(sink, WA_FILE, fd, name, access_mode(fd));
        if (outlives_rights(fd, fds, text))
            wa_say(sink, WA_PRIVILEGED, fd, name, "a file that this process may not open itself");
        if (name[0] == '/' && strncmp(name, "/memfd:", 7) != 0)
            locks_of(sink, fd, name);
    } else {
        wa_say(sink, WA_OTHER, fd, name, access_mode(fd));
    }
    return 0;
}

int wa_descriptors(const struct wa_sink *sink, struct wf_err *err) {
    return wa_for_each_number("/proc/self/fd", look_at, (void *)(uintptr_t)sink, err);
}
