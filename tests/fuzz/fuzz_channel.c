/* The blocking receiver, as workers and clients use it: everything lies in the socket, then one
 * message after the other. */
#include "fuzz.h"
#include "stream.h"

#include "base/io.h"
#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int before = stream_lowest_fd();
    struct stream s;
    int fd = stream_open(&s, data, size);
    while (stream_step(&s))
        ;
    static uint8_t storage[1024];
    struct wf_message m;
    struct wf_err err = { 0 };
    while (wf_channel_receive(fd, &m, storage, sizeof storage, 0, &err) == 1)
        stream_consume(&m);
    if (err.code == EAGAIN) /* the end has come and was not noticed */
        abort();
    wf_close(&fd);
    if (stream_lowest_fd() != before)
        abort();
    return 0;
}
