#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U /* Linux 6.3 */
#endif
#ifndef F_ADD_SEALS /* musl hides these behind <linux/fcntl.h>, which clashes with <fcntl.h> */
#define F_ADD_SEALS 1033
#define F_SEAL_SEAL 1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#define F_SEAL_WRITE 8
#endif

void wf_close(int *fd) {
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd); /* never repeated on EINTR: on Linux the number is free again in any case */
    errno = saved;
    *fd = -1;
}

int wf_steal_fd(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}

ssize_t wf_read_full(int fd, void *data, size_t size) {
    size_t got = 0;
    while (got < size) {
        ssize_t n = read(fd, (char *)data + got, size - got);
        if (n == 0)
            break;
        if (n > 0)
            got += (size_t)n;
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)got;
}

int wf_write_full(int fd, const void *data, size_t size) {
    bool socket = true;
    for (size_t done = 0; done < size;) {
        const char *from = (const char *)data + done;
        ssize_t n = socket ? send(fd, from, size - done, MSG_NOSIGNAL)
                           : write(fd, from, size - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno == ENOTSOCK && socket)
            socket = false;
        else if (errno != EINTR)
            return -1;
    }
    return 0;
}

ssize_t wf_read_text(int dirfd, const char *path, char *ret, size_t room) {
    int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : wf_read_full(fd, ret, room - 1);
    wf_close(&fd);
    ret[size < 0 ? 0 : size] = '\0';
    return size;
}

/* Reads `fd` to its end. The size that fstat tells is only a hint: files in /proc have none. */
static char *read_to_end(int fd, size_t max, size_t *ret_size) {
    struct stat st;
    size_t room = 4096, size = 0;
    if (fstat(fd, &st) == 0 && st.st_size > 0)
        room = (size_t)st.st_size;
    if (room > max)
        room = max;
    char *data = NULL;
    for (;;) {
        char *grown = realloc(data,
                              room + 2); /* one byte to notice a larger file, one for the NUL */
        if (!grown)
            break;
        data = grown;
        ssize_t n = wf_read_full(fd, data + size, room + 1 - size);
        if (n < 0)
            break;
        size += (size_t)n;
        if (size <= room) {
            data[size] = '\0';
            *ret_size = size;
            return data;
        }
        if (room >= max) {
            errno = EFBIG;
            break;
        }
        room = room > max / 2 ? max : room * 2;
    }
    int saved = errno;
    free(data);
    errno = saved;
    return NULL;
}

int wf_read_file(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_size) {
    int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -1;
    size_t size = 0;
    char *data = read_to_end(fd, max, &size);
    wf_close(&fd);
    if (!data)
        return -1;
    *ret_data = data;
    if (ret_size)
        *ret_size = size;
    return 0;
}

int wf_move_fd(int fd, int min) {
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, min);
    if (moved < 0)
        return fd;
    if (fd >= min && fd < moved) { /* it has the lowest number already */
        wf_close(&moved);
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        return fd;
    }
    wf_close(&fd);
    return moved;
}

static int write_part(int fd, struct iovec part) {
    while (part.iov_len > 0) {
        ssize_t n = write(fd, part.iov_base, part.iov_len);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            part.iov_base = (char *)part.iov_base + n;
            part.iov_len -= (size_t)n;
        }
    }
    return 0;
}

int wf_memfd_sealed(const char *name, const struct iovec *iov, int iovcnt) {
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL); /* demanded where vm.memfd_noexec = 2 */
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, flags);
    if (fd < 0)
        return -1;
    for (int i = 0; i < iovcnt; i++)
        if (write_part(fd, iov[i]) < 0) {
            wf_close(&fd);
            return -1;
        }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        wf_close(&fd);
    return fd;
}

long long wf_now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}
