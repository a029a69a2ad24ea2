/* String helpers that neither musl nor the mini libc need to provide. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static inline bool wf_text_starts(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Length of `text` up to the first of the bytes in `stops`, or to its end. */
static inline size_t wf_text_until(const char *text, const char *stops) {
    size_t size = 0;
    while (text[size] != '\0' && strchr(stops, text[size]) == NULL)
        size++;
    return size;
}
