/* Entry point of a fuzz target, as libFuzzer calls it; driver.c does so without libFuzzer. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A stream is a list of sends: a u8 of enum stream_fds, a u16 size (little endian), then the bytes.
 */
enum stream_fds {
    STREAM_NONE = 0,   /* no descriptor */
    STREAM_FILE = 1,   /* 1 to 3 ordinary ones: the lowest two bits are their number */
    STREAM_SEALED = 4, /* and behind them a sealed memfd of STREAM_MEMFD_SIZE bytes */
    STREAM_OPEN = 8,   /* or one that is not sealed */
};
#define STREAM_MEMFD_SIZE 551 /* that of sample request 0's payload and of no other */
