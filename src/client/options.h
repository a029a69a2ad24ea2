/* The python command line, read only as far as it must be: where the program is, and which options
 * shape the interpreter. The rules are those of CPython's own getopt, the same from 3.10 to 3.13.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wf_command {
    uint32_t mode;   /* enum wf_mode; 0 when no program could be made out (then `cold` is set) */
    uint32_t target; /* see struct wf_request */
    uint32_t target_offset;
    uint32_t options; /* argv[1..options] are whole options */
    uint32_t glued;   /* argv[options + 1] is a cluster like -Ic or -Icpass: that many bytes of it,
                       * "-I", are an   option too; else 0 */
    const char *cold; /* why this command cannot be served warm (static text), or NULL */
};

/* Always fills `ret`; what python would reject, or what cannot be served, sets `cold`. */
void wf_options_scan(uint32_t argc, char *const *argv, struct wf_command *ret);

/* Whether a -W or PYTHONWARNINGS entry of `size` bytes is one that python takes without printing or
 * importing anything. */
bool wf_options_plain_filter(const char *text, size_t size);
