/* The protocol: messages as structs, and their codec. Pure: bytes in, struct out; no system calls,
 * and no allocation it does not own. docs/protocol.md specifies it field by field. All integers
 * little endian.
 *
 * A message is a header of WF_HEADER_SIZE bytes and `size` bytes of payload, sent with exactly
 * `nfds` descriptors attached to its first byte. With WF_F_MEMFD the payload is not in the stream:
 * it is the content of a sealed memfd, which is the last of the descriptors.
 *
 * Decoders never copy: spans in a decoded struct point into the payload, which must outlive them.
 */
#pragma once

#include "base/buf.h"
#include "base/place.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define WF_MAGIC 0x4b464d57u /* "WMFK" */
#define WF_PROTOCOL 5
#define WF_HEADER_SIZE 16
#define WF_KEY_SIZE 16
#define WF_MAX_FDS 250             /* kernel: SCM_MAX_FD is 253 */
#define WF_MAX_PAYLOAD (16u << 20) /* argv + envp are limited to 6 MiB by Linux */
#define WF_INLINE_MAX (96u << 10)  /* larger payloads travel in a memfd */
#define WF_MAX_TEXT (1u << 20)
#define WF_LIMITS 16           /* RLIM_NLIMITS */
#define WF_MAX_CPUS_BYTES 1024 /* affinity mask */
#define WF_BOUNDS_MAX 2048     /* payload of WF_BOUNDS at most */

/* Numbers are never reused. */
enum wf_type {
    WF_RUN = 1, /* client → worker: struct wf_request, unbounded; WF_BOUNDS follows */
    /* client → daemon: struct wf_request; nobody waits (WF_F_WAIT: for WF_REPLY) */
    WF_WARM = 2,
    WF_STARTED = 3,    /* worker → client: struct wf_started, WF_STARTED_FDS; and candidate → daemon
                        * without a fd: the process that imports */
    WF_UNSUITABLE = 4, /* worker → client: struct wf_text (code = enum wf_reason) */
    WF_EXITED = 5,     /* worker → client, without WF_F_NOTICES: struct wf_exited */
    WF_STATUS = 6,     /* warmctl → daemon: struct wf_text (code 1: JSON); answered by WF_REPLY */
    /* warmctl → daemon: struct wf_text (name of a zygote, "" for the daemon and all) */
    WF_STOP = 7,
    WF_REPLY = 8, /* daemon → warmctl: struct wf_text (code 0 success, else failure) */
    /* daemon → base zygote: struct wf_request, 1 fd (control socket of the new zygote) */
    WF_SPAWN = 9,
    WF_READY = 10,  /* zygote → daemon: struct wf_ready; serves from now on */
    WF_FAILED = 11, /* zygote → daemon: struct wf_text; the zygote exits */
    /* daemon → zygote: struct wf_text (reason); stop serving, exit when told runs are over */
    WF_RETIRE = 12,
    WF_ASK = 13,    /* client → zygote or daemon: struct wf_started; how did this worker end? */
    WF_ANSWER = 14, /* answer: struct wf_exited (kind WF_END_UNKNOWN when nobody knows) */
    /* daemon → zygote's .ctl: this connection is the control channel now; answered by WF_READY */
    WF_ADOPT = 15,
    /* zygote → daemon: struct wf_text; something for `warmctl status` and the log */
    WF_NOTE = 16,
    /* zygote → daemon: struct wf_stats, after something changed, at most once a second */
    WF_STATS = 17,
    /* zygote → daemon: struct wf_text (reason); it has stopped serving by itself (stale, idle) */
    WF_GONE = 18,
    WF_BOUNDS = 19, /* client → worker, right after WF_RUN: the bounds of struct wf_request */
    /* Both worker → client, on a connection of their own (WF_NOTICE_CONNECT).
     * struct wf_modes, that it began with, and 1 fd (the master): the program has a pseudo-terminal
     * now, in place of the caller's terminal */
    WF_TERMINAL = 20,
    /* 21 was WF_INPUT, now WF_NOTICE_INPUT */
    /* after WF_TERMINAL: empty, 1 fd (socket of its session's keeper) */
    WF_KEEPER = 22,
};
#define WF_TYPE_LAST WF_KEEPER

/* The descriptors of WF_STARTED, in this order. While the first is open anywhere the program lives:
 * the kernel kills it when the last one closes. The third undoes that (F_SETFL 0), once the program
 * has ended. */
enum { WF_STARTED_TIE, WF_STARTED_PIDFD, WF_STARTED_UNTIE, WF_STARTED_FDS };

/* WF_F_NOTICES (WF_RUN): the client is told by signals (WF_NOTICE_SIGNAL, WF_STOP_NOTICE), so that
 * the worker need not keep a connection, which its program would find open. */
enum wf_flags {
    WF_F_MEMFD = 1,
    WF_F_WAIT = 2,
    WF_F_NOTICES = 4,
    /* WF_RUN: descriptor 0, 1, 2 is the caller's controlling terminal */
    WF_F_TERMINAL_0 = 8,
    WF_F_TERMINAL_1 = 16,
    WF_F_TERMINAL_2 = 32,
    /* WF_RUN, with one of these: the program gets its pseudo-terminal before it starts */
    WF_F_TERMINAL_NOW = 64,
    /* WF_RUN: the client leads its process group, its session */
    WF_F_LEADS_GROUP = 128,
    WF_F_LEADS_SESSION = 256,
};
#define WF_F_LEADS (WF_F_LEADS_GROUP | WF_F_LEADS_SESSION)
#define WF_F_TERMINAL (WF_F_TERMINAL_0 | WF_F_TERMINAL_1 | WF_F_TERMINAL_2)

/* Nothing but its parent, the zygote, learns that a process has stopped. It tells the client by a
 * queued SIGCHLD with this value, to which the number of the signal that stopped the program is
 * added; and a client that is stopped itself, when its program was continued, by a queued SIGCONT
 * with this value. */
#define WF_STOP_NOTICE 0x57465300u

/* What a worker tells: this signal, queued (a real-time signal: none is lost behind another), with
 * a 64-bit value whose upper half says what and whose lower half depends on that. */
#define WF_NOTICE_SIGNAL 64
#define WF_NOTICE(what, value) ((uint64_t)(0x57464e00u + (what)) << 32 | (value))
#define WF_NOTICE_NAME 12
enum wf_notice {
    /* kind << 8 | value of struct wf_exited, and a name, as with WF_NOTICE_CONNECT, << 12: that of
     * somebody to whom the client may leave a master; 0: nobody */
    WF_NOTICE_EXITED = 1,
    /* somebody listens on an abstract socket whose name is NUL and the value in 5 hexadecimal
     * digits: connect to it, for WF_TERMINAL or WF_KEEPER */
    WF_NOTICE_CONNECT,
    WF_NOTICE_INPUT, /* the program looks for input without waiting for it */
};

struct wf_header {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t size; /* of the payload */
    uint16_t nfds; /* including the memfd, if any */
    uint16_t flags;
};

/* Why a worker will not run a request. The client tries the next variant or broader route, then
 * python itself. */
enum wf_reason {
    WF_WHY_KEY = 1,    /* another context key than this zygote's */
    WF_WHY_PLACE = 2,  /* other namespaces, ids, root or capabilities */
    WF_WHY_LIMITS = 3, /* limits, niceness or scheduling that cannot be reached from here */
    /* a consulted environment variable has another value: try the next variant */
    WF_WHY_INPUTS = 4,
    WF_WHY_STALE = 5,   /* a loaded file has changed */
    WF_WHY_SHADOW = 6,  /* a file beside the script hides a preloaded module */
    WF_WHY_PROGRAM = 7, /* this program or its stdio cannot be served warm */
    WF_WHY_SETUP = 8,   /* a set-up step failed; text names call and object */
};

enum wf_mode {
    WF_MODE_SCRIPT = 1,  /* argv[target] is a path */
    WF_MODE_COMMAND = 2, /* argv[target] + target_offset is the text of -c */
    WF_MODE_MODULE = 3,  /* argv[target] + target_offset is the name after -m */
    /* program on stdin: target is the index of "-", or argc when there is none */
    WF_MODE_STDIN = 4,
};

struct wf_span {
    const uint8_t *data;
    uint32_t size;
};

struct wf_limit {
    uint64_t soft, hard;
}; /* RLIM_INFINITY as UINT64_MAX */

/* One run of a program, as the caller would have had python run it. */
struct wf_request {
    uint8_t key[WF_KEY_SIZE];
    /* of the same context without preload and name; equal to key for these */
    uint8_t base_key[WF_KEY_SIZE];
    struct wf_place place;
    uint64_t sig_blocked; /* bit n-1: signal n */
    uint32_t umask;
    uint32_t pid; /* the client's */
    /* WF_SPAWN: which variant of `key` to become, 0..WF_VARIANTS-1; else 0 */
    uint32_t variant;
    uint32_t stdio;                       /* bits 0-2: that descriptor is open */
    uint32_t mode, target, target_offset; /* enum wf_mode */
    /* argv[1..options] are interpreter options that shape the interpreter */
    uint32_t options;
    struct wf_span python;  /* absolute path of the interpreter, no NUL */
    struct wf_span zygote;  /* $WARMFORK_ZYGOTE or "" */
    struct wf_span preload; /* modules, comma separated, or "" */
    struct wf_span init;    /* absolute path of the init section, or "" */
    /* WF_WARM, WF_SPAWN: absolute path of the working directory, or "" where that is not known */
    struct wf_span directory;
    /* u32 each: numbers of the inherited descriptors, in the order sent */
    struct wf_span fdnums;
    uint32_t argc, envc;
    /* argv then envp, each NUL-terminated; always the last field */
    struct wf_span strings;

    /* The bounds: what the kernel holds the caller to. Measuring them takes as long as a worker
     * needs to make ready, so WF_RUN comes without them and the worker gets them when it is. All 0
     * while `bounded` is false, as are the namespaces in `place` but WF_NS_MNT. */
    bool bounded;
    struct wf_limit limit[WF_LIMITS]; /* index: RLIMIT_* of Linux's generic numbering */
    uint64_t sig_ignored;             /* bit n-1: signal n */
    int32_t nice, sched, ioprio;      /* getpriority, sched_getscheduler, ioprio_get */
    struct wf_marks marks;
    struct wf_span cpus; /* sched_getaffinity mask, as the kernel returned it */
};
/* Descriptors of WF_RUN, in order: those of 0, 1, 2 that are open; the working directory; the
 * inherited ones. WF_WARM and WF_SPAWN carry the same struct; WF_WARM no descriptor, WF_SPAWN the
 * control socket. */

struct wf_started {
    uint32_t pid;    /* of the worker, in its own pid namespace */
    uint64_t cookie; /* start time of that process, from /proc/PID/stat, against reuse of pids */
};

enum wf_end { WF_END_UNKNOWN = 0, WF_END_EXIT = 1, WF_END_SIGNAL = 2 };

struct wf_exited {
    uint32_t kind;  /* enum wf_end */
    uint32_t value; /* exit code or signal number */
    uint32_t core;  /* signal: a core was dumped */
};

struct wf_text {
    uint32_t code;
    struct wf_span text;
};

/* What warming up has asked of the working directory: whether some names are missing there; which
 * one it is. Only programs that would get the same answers are served. */
enum wf_asked { WF_ASKED_NOTHING = 0, WF_ASKED_NAMES = 1, WF_ASKED_DIRECTORY = 2 };

struct wf_ready {
    uint32_t pid, variant;
    uint32_t asked; /* enum wf_asked */
    uint8_t key[WF_KEY_SIZE];
    struct wf_span name; /* of a named zygote, or "" */
    struct wf_span python;
    struct wf_span options; /* NUL-terminated strings */
    struct wf_span preload;
    struct wf_span init;
    struct wf_span directory; /* that it was made in, "" when nothing was asked of it */
    struct wf_span version;   /* "3.11.7" */
};

struct wf_stats {
    uint32_t standby, running; /* workers */
    uint64_t served, refused;  /* runs since start */
    uint64_t last_us;          /* CLOCK_MONOTONIC of the last run */
};

/* A named zygote's definition, kept in <rundir>/zygotes/NAME: "preload M,N\ninit /path\n" in wire
 * form. */
struct wf_definition {
    struct wf_span name, preload, init;
};

/* Encoders append header and payload to `out`; false when it did not fit. */
bool wf_encode_header(struct wf_buf *out, const struct wf_header *h);

/* Everything of the payload but the bytes of `strings`, whose length is written: the caller sends
 * them from where they lie (argv and envp are contiguous on the initial stack). Payload size =
 * (what was appended) + strings.size. */
bool wf_encode_request(struct wf_buf *out, const struct wf_request *r);
bool wf_encode_bounds(struct wf_buf *out, const struct wf_request *r);
bool wf_encode_started(struct wf_buf *out, const struct wf_started *m);
bool wf_encode_exited(struct wf_buf *out, const struct wf_exited *m);
bool wf_encode_text(struct wf_buf *out, const struct wf_text *m);
bool wf_encode_ready(struct wf_buf *out, const struct wf_ready *m);
bool wf_encode_stats(struct wf_buf *out, const struct wf_stats *m);
bool wf_encode_definition(struct wf_buf *out, const struct wf_definition *m);

/* Decoders return NULL, or what is wrong ("argc does not match strings"); `ret` is untouched then.
 * They accept exactly what the encoders produce: trailing bytes are an error. */
const char *wf_decode_header(const uint8_t data[WF_HEADER_SIZE], struct wf_header *ret);
const char *wf_decode_request(const uint8_t *data, size_t size, struct wf_request *ret);

/* Adds the bounds to a request that has none. */
const char *wf_decode_bounds(const uint8_t *data, size_t size, struct wf_request *ret);
const char *wf_decode_started(const uint8_t *data, size_t size, struct wf_started *ret);
const char *wf_decode_exited(const uint8_t *data, size_t size, struct wf_exited *ret);
const char *wf_decode_text(const uint8_t *data, size_t size, struct wf_text *ret);
const char *wf_decode_ready(const uint8_t *data, size_t size, struct wf_ready *ret);
const char *wf_decode_stats(const uint8_t *data, size_t size, struct wf_stats *ret);
const char *wf_decode_definition(const uint8_t *data, size_t size, struct wf_definition *ret);

/* How many descriptors a request of this type must come with (without a memfd); -1 for an unknown
 * type. */
int wf_request_nfds(enum wf_type type, const struct wf_request *r);

/* Entry `index` of `strings` (argv first, then envp), by walking: for tests and slow paths. NULL
 * past the end. */
const char *wf_request_string(const struct wf_request *r, uint32_t index);

/* "KEY.N" or "KEY.N.ctl" below the runtime directory. */
void wf_route_name(const uint8_t key[WF_KEY_SIZE], unsigned variant, bool control,
                   char ret_name[48]);
