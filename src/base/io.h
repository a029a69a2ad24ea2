/* System calls that restart on EINTR, and descriptors that are close-on-exec from birth. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Closes *fd if it is not negative and sets it to -1; errno is preserved. */
void wf_close(int *fd);

/* Takes the descriptor out of *fd, leaving -1 (ownership moves to the caller). */
int wf_steal_fd(int *fd);

/* Reads or writes exactly `size` bytes. Reads return the bytes got, short only at end of file; -1
 * with errno. Writes return 0, or -1 with errno (never SIGPIPE on sockets: MSG_NOSIGNAL is tried
 * first). */
ssize_t wf_read_full(int fd, void *data, size_t size);
int wf_write_full(int fd, const void *data, size_t size);

/* Reads the beginning of a file, of /proc say, into `ret` and ends it with NUL. Returns the bytes
 * got, or -1 with errno and an empty text. */
ssize_t wf_read_text(int dirfd, const char *path, char *ret, size_t room);

/* Reads a whole file of at most `max` bytes into a malloc'd, NUL-terminated block owned by the
 * caller. Fails with EFBIG when the file is larger. */
int wf_read_file(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_size);

/* Moves `fd` to the lowest free number >= `min`, close-on-exec, and closes the old one. Returns the
 * new number, or the old one unchanged when there is no room. */
int wf_move_fd(int fd, int min);

/* A sealed memfd holding the parts of `iov`; returns a close-on-exec descriptor or -1 with errno.
 */
int wf_memfd_sealed(const char *name, const struct iovec *iov, int iovcnt);

/* Monotonic clock in microseconds. */
long long wf_now_us(void);
