/* The framer, as an event loop uses it: read after every send, until the end. No descriptor may be
 * left. */
#include "fuzz.h"
#include "stream.h"

#include "base/io.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int before = stream_lowest_fd();
    struct stream s;
    int fd = stream_open(&s, data, size);
    struct wf_framer f;
    struct wf_message m;
    struct wf_err err;
    wf_framer_init(&f);
    for (bool more = true; more;) {
        more = stream_step(&s);
        int status;
        while ((status = wf_framer_read(&f, fd, &m, &err)) == 1)
            stream_consume(&m);
        if (status < 0)
            break;
        if (!more)
            abort(); /* the end has come and was not noticed */
    }
    wf_framer_done(&f);
    stream_close(&s);
    wf_close(&fd);
    if (stream_lowest_fd() != before)
        abort();
    return 0;
}
