/* Compiled once per message, with FUZZ_CODEC naming it. What a decoder accepts must keep its
 * promises (codec_again checks them) and come back from the encoder byte by byte. */
#include "fuzz.h"

#include "../unit/codec.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct wf_buf out;
    wf_buf_init(&out, size);
    if (!codec_again(FUZZ_CODEC, data, size, &out) &&
        (out.failed || out.size != size || memcmp(out.data, data, size) != 0))
        abort();
    wf_buf_done(&out);
    return 0;
}
