/* warmforkd: starts zygotes on demand, watches them, retires them. It never stands in the path of a
 * run, so everything here may fail or be killed without a program noticing.
 *
 * One `struct daemon` holds it all. The loop (loop.c) dispatches events to connections (server.c)
 * and zygotes (zygote.c, a [state][event] table); then settle.c does what follows from the new
 * state: it feeds waiting zygotes to their base, meets deadlines, answers who waits, frees what is
 * dead. No handler waits for anything. */
#pragma once

#include "base/err.h"
#include "base/place.h"
#include "base/rundir.h"
#include "channel/channel.h"
#include "wire/wire.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef WF_VERSION
#define WF_VERSION "unknown"
#endif

#define WD_CONNS 64    /* control connections at once; more wait in the listen queue */
#define WD_ZYGOTES 16  /* that serve or are on their way */
#define WD_FAILURES 32 /* remembered keys that could not be warmed */
#define WD_NOTES 8     /* kept per zygote */
#define WD_ENDED 4096  /* wait statuses of orphaned workers */
#define WD_LOG_MAX (1 << 20)

#define WD_MAKES_WAY 2 /* code of a WF_REPLY: ask the next daemon, once this connection ends */

#define WD_SECOND 1000000LL /* all times are microseconds of CLOCK_MONOTONIC */
#define WD_MESSAGE_US                                                                              \
    (5 * WD_SECOND) /* a peer that has not finished its message by then is dropped */
#define WD_LAUNCH_US (60 * WD_SECOND) /* python up and the bare interpreter warm */
#define WD_WARM_US (600 * WD_SECOND)  /* a preload or an init section may take its time */
/* waiting for its base, and that for its turn */
#define WD_QUEUE_US (WD_LAUNCH_US + WD_WARM_US)
#define WD_ADOPT_US (5 * WD_SECOND)
#define WD_RETIRE_US                                                                               \
    (10 * WD_SECOND) /* a retired zygote without runs that is still there is killed */
#define WD_ASK_US (2 * WD_SECOND)
#define WD_HOLD_US (10 * WD_SECOND)
#define WD_MEASURE_US (60 * WD_SECOND)
#define WD_DOUBLE_US (1 * WD_SECOND) /* a WF_WARM this soon after WF_READY was sent before it */

struct daemon;

/* One descriptor in the epoll set; lives inside its owner, which settle.c frees only between two
 * batches of events. */
struct wd_watch {
    int fd; /* owned; -1: none */
    void (*ready)(struct daemon *d, void *owner);
    void *owner;
};

enum wd_state {
    ZS_NEW,
    ZS_ADOPTING,  /* found in the runtime directory, asked to make this daemon its own */
    ZS_HELD,      /* wanted by a program that runs cold meanwhile: see hold.c */
    ZS_WAITING,   /* has a preload or a name: needs its base zygote ready */
    ZS_LAUNCHING, /* base: python is starting */
    ZS_WARMING,   /* forked from its base, imports */
    ZS_READY,     /* serves */
    ZS_RETIRING,  /* serves no more; programs may still run in it */
    ZS_FAILED, /* no process: the memory of a failure, for the back-off and for `warmctl status` */
    ZS_DEAD,   /* about to be freed */
    ZS_COUNT
};

enum wd_event {
    ZE_ADOPT,  /* a control socket was found */
    ZE_HOLD,   /* wanted, but not yet to be started */
    ZE_QUEUE,  /* wanted; has a base to wait for */
    ZE_LAUNCH, /* wanted; is a base */
    ZE_BASE_READY,
    ZE_BASE_LOST,
    ZE_READY,   /* it says that it serves */
    ZE_FAILED,  /* it says that it will not */
    ZE_GONE,    /* it says that it has stopped */
    ZE_EXIT,    /* its process ended */
    ZE_EOF,     /* its control channel closed or spoke nonsense */
    ZE_RETIRE,  /* we want it gone */
    ZE_TIMEOUT, /* its deadline passed */
    ZE_COUNT
};

struct wd_zygote {
    struct wd_zygote *next;
    unsigned id; /* never reused: what connections wait for */
    enum wd_state state;
    uint8_t key[WF_KEY_SIZE], base_key[WF_KEY_SIZE];
    unsigned variant;
    pid_t pid;                 /* 0: not known */
    unsigned base_id;          /* the base that it was forked from */
    bool dismissed;            /* told to go, or said so itself: its end is no crash */
    bool gone;                 /* it gave a reason itself */
    bool child;                /* ours to reap: its status will be known */
    int status;                /* as wait() gives it; -1: not known */
    struct wd_watch exit;      /* pidfd */
    struct wd_watch requester; /* pidfd of the program that ZS_HELD is for */
    uint32_t requester_pid;
    long long held_until_us;
    struct wd_watch control;
    struct wf_framer framer;
    struct wd_watch errors; /* python's stderr */
    char line[512];         /* of it, incomplete */
    size_t line_size;
    char last_line[512]; /* of it, complete */
    int launch_fd;       /* our end of the control socket at fd 3, until it answers */
    ino_t peer_ino; /* socket inode of its end: finds a candidate whose pid we were never told */

    uint8_t *request; /* wire form, until it is ready */
    size_t request_size;
    uint64_t env_hash;    /* of the environment it was made with; 0: unknown */
    unsigned bases_tried; /* bit per variant of the base that did not suit */
    bool made_base;       /* a base was started for it, once */
    bool urgent;          /* a person waits: no back-off */
    unsigned code;        /* of its WF_FAILED or WF_GONE: enum wf_reason, or 0 */

    char *name, *python, *options, *preload, *init, *version; /* owned, or NULL */
    char *directory; /* the same; that it was made in, when it asked for something there */
    unsigned asked;  /* enum wf_asked */
    char *notes[WD_NOTES];
    unsigned note_count;
    char why[400]; /* it failed, or is retired */

    long long created_us, ready_us, used_us, deadline_us; /* deadline 0: none */
    long long retry_us; /* ZS_FAILED: WF_WARM is dropped until then */
    unsigned failures;  /* in a row */
    struct wf_stats stats;
    bool has_stats;
    unsigned long pss_kb, rss_kb;
};

enum wd_wait { WD_WAIT_NONE, WD_WAIT_WARM, WD_WAIT_STOP, WD_WAIT_ASK };

struct wd_conn {
    struct wd_watch watch;
    struct wf_framer framer;
    long long deadline_us;
    enum wd_wait wait;
    bool dead;
    unsigned zygote_id; /* WD_WAIT_WARM */
    char name[128];     /* WD_WAIT_STOP: a zygote's name, "" for all */
    unsigned stopped;
    bool defined; /* warmctl has removed its definition: then it need not have been running */
    struct wf_started ask; /* WD_WAIT_ASK */
};

struct wd_ended {
    pid_t pid;
    uint64_t cookie;
    int status;
};

struct wd_options {
    long long idle_us;
    unsigned memory_percent;
    int log_level;
    bool foreground;
};

struct daemon {
    struct wd_options options;
    char rundir[WF_RUNDIR_MAX + 1];
    int rundir_fd, lock_fd;
    char libdir[1024];
    bool activated; /* the listening socket is systemd's: neither unlinked nor given up to a better
                       place */
    struct wf_place place;
    struct wf_limit limit[WF_LIMITS];
    int nice;

    int epoll_fd;
    struct wd_watch signals, timer, listen;
    bool accepting;
    struct wd_conn *conn[WD_CONNS];
    struct wd_zygote *zygotes;
    unsigned last_id;

    struct wd_ended ended[WD_ENDED];
    unsigned ended_next;

    long long started_us, used_us, measured_us;
    unsigned long memory_max_kb;
    unsigned long long warms, refused;
    char last_refusal[320];
    unsigned churn; /* variants thrown away unused, in a row; see warm.c */
    long long churn_us;
    bool displaced; /* the runtime directory is not ours any more */
    bool leaving;   /* no new zygotes; the loop ends when everyone has been told */
    bool done;
};

/* loop.c */
int wd_loop_init(struct daemon *d, struct wf_err *err);
int wd_watch(struct daemon *d, struct wd_watch *w, int fd, void (*ready)(struct daemon *, void *),
             void *owner, struct wf_err *err); /* takes the descriptor over, also on failure */
void wd_unwatch(struct daemon *d, struct wd_watch *w);
int wd_loop_run(struct daemon *d, struct wf_err *err);

/* setup.c: what the process needs before its loop. Each fails with the call and the object named.
 */
int wd_setup_rundir(struct daemon *d, struct wf_err *err);
int wd_setup_lock(struct daemon *d, bool *ret_running, struct wf_err *err);
int wd_setup_listen(struct daemon *d, int inherited, struct wf_err *err);
int wd_setup_libdir(struct daemon *d, struct wf_err *err);
int wd_setup_systemd(void); /* the descriptor that systemd handed over, or -1 */
void wd_setup_measure(struct daemon *d);
void wd_setup_close_inherited(const struct daemon *d, int also);
void wd_log_start(struct daemon *d);
void wd_log_rotate(struct daemon *d);

/* server.c */
void wd_server_accept(struct daemon *d, void *unused);
void wd_server_pause(struct daemon *d); /* listens only while there is room */
void wd_conn_close(struct daemon *d, struct wd_conn *c);
void wd_send_bound(int fd);
int wd_send(int fd, enum wf_type type, const void *payload, size_t size, const int *send_fd,
            struct wf_err *err);
int wd_send_text(int fd, enum wf_type type, unsigned code, const char *text);
void wd_conn_reply(struct daemon *d, struct wd_conn *c, unsigned code, const char *text);
void wd_notify(struct daemon *d, unsigned zygote_id,
               const char *text); /* progress, to who waits for that zygote */

/* warm.c: what a WF_WARM means. */
void wd_warm(struct daemon *d, struct wd_conn *c, const struct wf_request *r, bool wait);
struct wd_zygote *wd_zygote_wanted(struct daemon *d, const struct wf_request *r, uint64_t env_hash,
                                   bool base, bool hold, struct wf_err *err);
bool wd_warm_base(struct daemon *d, struct wd_zygote *z,
                  struct wf_err *err); /* makes sure that a base is coming */
unsigned wd_stop(struct daemon *d, const char *name, const char *reason); /* how many it retired */

/* hold.c: a first run must not be slower for what is done for the next ones. */
bool wd_hold(struct daemon *d, struct wd_zygote *z, uint32_t pid); /* false: nobody to wait for */
void wd_hold_release(struct daemon *d, struct wd_zygote *z);       /* it is started now */

/* zygote.c */
struct wd_transition {
    bool (*action)(struct daemon *d,
                   struct wd_zygote *z); /* false: `otherwise` is the next state */
    enum wd_state next, otherwise;
    bool known; /* false: the event means nothing in this state */
};
const struct wd_transition *wd_zygote_transition(enum wd_state state, enum wd_event event);
void wd_zygote_event(struct daemon *d, struct wd_zygote *z, enum wd_event event);

/* roster.c */
const char *wd_state_name(enum wd_state state);
const char *wd_text(const char *text); /* "" for NULL */
struct wd_zygote *wd_zygote_new(struct daemon *d, const uint8_t key[WF_KEY_SIZE],
                                const uint8_t base_key[WF_KEY_SIZE]);
void wd_zygote_free(struct daemon *d, struct wd_zygote *z);
bool wd_zygote_live(const struct wd_zygote *z); /* holds a slot: serves or is on its way */
bool wd_zygote_is_base(const struct wd_zygote *z);
void wd_zygote_close(struct daemon *d, struct wd_zygote *z); /* all its descriptors */
struct wd_zygote *wd_zygote_failure(const struct daemon *d, const uint8_t key[WF_KEY_SIZE]);
void wd_zygote_label(const struct wd_zygote *z, char *out, size_t size);
void wd_zygote_unlink(struct daemon *d, const struct wd_zygote *z, bool control);

/* control.c: what zygotes say, on their control channel and on stderr. */
void wd_control_ready(struct daemon *d, void *owner);
void wd_errors_ready(struct daemon *d, void *owner);
void wd_exit_ready(struct daemon *d, void *owner);
int wd_control_watch(struct daemon *d, struct wd_zygote *z, int fd, struct wf_err *err);
int wd_pid_watch(struct daemon *d, struct wd_zygote *z, struct wf_err *err);
void wd_control_read(struct daemon *d, struct wd_zygote *z);
void wd_errors_read(struct daemon *d, struct wd_zygote *z);
void wd_zygote_note(struct wd_zygote *z, const char *text, size_t size);

/* launch.c */
int wd_launch_python(struct daemon *d, struct wd_zygote *z, struct wf_err *err);
int wd_launch_candidate(struct daemon *d, struct wd_zygote *z, struct wd_zygote *base,
                        struct wf_err *err);
void wd_launch_kill(struct wd_zygote *z, const struct daemon *d); /* one that is not ready yet */

/* reap.c */
void wd_reap(struct daemon *d);
bool wd_reap_find(const struct daemon *d, const struct wf_started *who, int *ret_status);
uint64_t wd_process_cookie(pid_t pid); /* start time; 0 when there is no such process */
void wd_ask(struct daemon *d, struct wd_conn *c, const struct wf_started *who);
bool wd_ask_settle(struct daemon *d, struct wd_conn *c, long long now); /* true: answered */
void wd_status_text(int status, char *out, size_t size);

/* adopt.c */
void wd_adopt_all(struct daemon *d);

/* settle.c */
struct wd_zygote *wd_base_for(struct daemon *d,
                              const struct wd_zygote *z); /* READY and not tried yet, or NULL */
void wd_settle(struct daemon *d);
long long wd_next_deadline(const struct daemon *d); /* 0: none */

/* memory.c */
void wd_measure(struct daemon *d); /* sizes of all zygotes, at most once a minute */
unsigned long wd_memory_limit_kb(unsigned percent);
struct wd_zygote *wd_oldest(struct daemon *d, const uint8_t *only_key,
                            const uint8_t *spare_key); /* READY, LRU */

/* status.c, json.c: both append to `out`. False: nothing of this name. */
bool wd_status(struct daemon *d, const char *name, struct wf_buf *out);
void wd_status_json(struct daemon *d, const char *name, struct wf_buf *out);
unsigned long wd_running(const struct daemon *d, const char *name);
