/* The one cleanup idiom of our C: a variable marked with one of these is released when it leaves
 * scope. */
#pragma once

#include "base/io.h"
#include "base/buf.h"
#include <stdlib.h>

static inline void wf_cleanup_free(void *p) { free(*(void **)p); }

#define WF_AUTO_FD __attribute__((cleanup(wf_close))) int
#define WF_AUTO_FREE __attribute__((cleanup(wf_cleanup_free)))
#define WF_AUTO_BUF __attribute__((cleanup(wf_buf_done))) struct wf_buf
