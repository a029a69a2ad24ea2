/* The zygote: an interpreter that has warmed up, and the standby workers it forks.
 *
 * One `struct zygote` per process. A zygote's loop (loop.c) forks workers (fork.c); a worker
 * accepts one request (worker.c), checks that it suits (suit.c), sets the process up as
 * the caller's (setup.c, stdio.c), runs the program (run.c) and finishes it (finish.c). Warm-up is
 * in warmup.c, heap.c, inputs.c and watch.c; python.c holds what is looked up in the interpreter
 * once. */
#pragma once

#include "base/err.h"
#include "base/place.h"
#include "wire/wire.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <linux/prctl.h>
#include <sys/types.h>

#define ZY_SLOTS 4096 /* workers alive at once */
#define ZY_STANDBY 2  /* two serve gaps of 5 ms */
#define ZY_INNOCENT 256
#define ZY_PAGES 2048        /* remembered of those that a program's end writes to */
#define ZY_ENDED 4096        /* wait statuses kept */
#define ZY_FD_BASE 700       /* our own descriptors live up here, away from the program's */
#define ZY_FD_GATHER 760     /* six in a row, in a standby */
#define ZY_FD_GIVEN 770      /* three: WF_STARTED_*; */
#define ZY_FD_CONNECTION 773 /* and behind them the connection: one call closes all four */
#define ZY_REFILL_US 20000   /* a run that lasts longer is replaced before it ends */

/* What kind of file a standard stream is: decides how its Python objects are built. */
struct zy_stdkind {
    uint32_t type; /* S_IFMT bits, 0: closed */
    uint32_t blksize;
    uint32_t tty;
    uint32_t moved; /* seekable and not at offset 0 */
};

enum zy_state { ZY_FREE, ZY_PREPARING, ZY_WAITING, ZY_TAKEN };

enum { ZY_PAGES_UNKNOWN, ZY_PAGES_LEARNING, ZY_PAGES_KNOWN };

/* Shared by a zygote and its workers (MAP_SHARED, anonymous). */
struct zy_shared {
    atomic_int waiting; /* standbys in accept() */
    atomic_ullong served, refused;
    atomic_llong last_us;    /* when the last run began; at first: when serving began */
    atomic_bool often;       /* runs have followed each other closely (foresee.c) */
    atomic_uint openings;    /* of warmpy's file that standbys were told of, since the last run */
    atomic_uint streak;      /* runs in a row that were the only one to follow an opening */
    atomic_int client_known; /* 0, 1: being looked up, 2: known */
    char client_path[256];   /* of the executable of the clients */
    struct zy_stdkind kinds[3]; /* of the last run: what standbys prepare for */
    atomic_int state[ZY_SLOTS]; /* enum zy_state */
    atomic_uint page_count;
    atomic_ullong
        innocent[ZY_INNOCENT]; /* directories without a module of a preloaded one's name (suit.c) */
    uintptr_t page[ZY_PAGES];  /* that the end of a program writes to */
    atomic_ullong cookie[ZY_SLOTS]; /* start time of that worker */
    atomic_uint client[ZY_SLOTS];   /* pid to tell of stops, 0: nobody wants to know */
};

struct zy_worker {
    pid_t pid; /* 0: the slot is free */
};

struct zy_ended {
    pid_t pid;
    uint64_t cookie;
    int status; /* as wait() gives it */
};

struct zygote {
    char rundir[80];
    char libdir[512];
    uint8_t key[WF_KEY_SIZE];
    unsigned variant;
    bool serving;
    bool base; /* came from exec, not from another zygote */
    struct wf_place place;
    struct wf_limit limit[WF_LIMITS];
    int nice;
    struct wf_marks marks;
    uint8_t cpus[WF_MAX_CPUS_BYTES];
    unsigned cpus_size;
    struct prctl_mm_map mm; /* addresses that only the kernel remembers; start_code 0: unknown */
    bool idle_reversible;   /* SCHED_IDLE can be left again */

    /* descriptors, -1 when closed */
    int control, ctl_listen, listen, signals, wake, refill, watch;
    int opened, both; /* foresee.c */
    int ctl[8];       /* accepted connections on the .ctl socket */
    struct zy_shared *shared;
    struct zy_worker worker[ZY_SLOTS];
    struct zy_ended ended[ZY_ENDED];
    unsigned ended_next;
    unsigned target;     /* standbys wanted */
    unsigned slots_used; /* one more than the highest slot that was ever taken */
    bool fork_failing, ready_told, stats_due;
    unsigned fork_failures; /* in a row */
    char version[32];       /* of python */
    uint64_t route_ino[2]; /* of the run socket's and the .ctl's entries in the runtime directory */
    unsigned early_deaths; /* of standbys, in a row */
    int pages;             /* what a run touches: ZY_PAGES_* */
    pid_t learner;         /* the worker that finds out */
    unsigned long long served_told;
    pid_t zygote_pid;
    long long warming_since_us; /* CLOCK_REALTIME: files that changed since were perhaps read before
                                   that */
    unsigned failed_why;        /* code for WF_FAILED */

    pid_t own_pid; /* in a worker: */
    bool tied;     /* what ties it to its client could be made (tie.c) */
    uint64_t cookie;
    unsigned slot;
    bool environ_rehearsed; /* os.environ holds what `request` has */
    bool hurried;           /* somebody waits for it: made ready at ordinary priority */
    bool learning;          /* it finds out what a run touches */

    uint8_t *request_data; /* the request it was made from; owned */
    size_t request_size;
    struct wf_request request;
};

extern struct zygote zy; /* the one of this process */

/* loop.c: serves until retired; returns only in a new worker (true) or candidate (false). */
bool zy_loop(void);
void zy_kill_standbys(void);
/* Forgets what belonged to the base zygote it was forked from. */
void zy_become_candidate(void);
/* Takes over a WF_SPAWN: the request and, as its descriptor, the control socket of the zygote to
 * be. */
struct wf_message;
int zy_adopt_request(struct wf_message *m, struct wf_err *err);

/* tell.c: on the control channel; nothing happens when there is none. */
bool zy_send(int fd, enum wf_type type, struct wf_buf *out); /* false: not sent */
void zy_tell(enum wf_type type, unsigned code, const char *text);
bool zy_tell_ready(void);   /* false: there is no daemon to tell */
void zy_tell_stats(void);   /* now and then, if there is something new */
void zy_tell_process(void); /* which process imports: for a daemon that wants to end it */
bool zy_given_up(void);     /* the daemon has closed its end: nobody wants what is being warmed */

/* route.c: opens the sockets of `key`.`variant` and starts to serve. */
int zy_open(struct wf_err *err);
void zy_stop_serving(const char *reason);
/* The socket is gone or another zygote's: nobody can reach us any more. */
bool zy_route_lost(void);
void zy_route_unlink(bool control);

/* asks.c: answers who asked for that worker. */
void zy_answer(const struct zy_ended *ended);
void zy_asks_accept(void);
void zy_asks_serve(int i); /* connection i of zy.ctl has something to read */
void zy_asks_forget(void);

/* fork.c */
enum zy_forked { ZY_PARENT, ZY_CHILD, ZY_FORK_FAILED };
/* Forks with Python's own hooks. May return twice. */
enum zy_forked zy_fork(pid_t *ret_pid, struct wf_err *err);
/* Forks standbys until `target` wait. Returns true in a new worker. */
bool zy_refill(bool urgent);
void zy_reap(void);
unsigned zy_count(enum zy_state state);

/* stops.c: tells the client of a program that was stopped, or continued, by somebody else (`status`
 * as wait() gives it), see WF_STOP_NOTICE. */
void zy_stops_tell(unsigned slot, int status);
#define ZY_STOPS_MS 500       /* between two looks */
bool zy_stops_expected(void); /* there are clients to look at */
void zy_stops_look(void);     /* stops the programs whose clients are stopped */

/* worker.c: never returns. */
_Noreturn void zy_worker_main(unsigned slot);
struct zy_job;
bool zy_is_connection(const struct zy_job *job, int fd);

struct zy_job {
    struct wf_request request;
    const char *const *argv;   /* argc + 1 pointers into request.strings */
    char **envp;               /* envc + zy_changes_room() + 1 pointers */
    const char *text;          /* argv[target] + target_offset, or NULL */
    int connection;            /* -1 in rehearsal, and in a program whose client has notices */
    int given[WF_STARTED_FDS]; /* what WF_STARTED hands over; -1 in rehearsal */
    bool notices;              /* the client is told by signals */
    pid_t owner; /* the worker: children that the program forks end without sending a status */
    uint32_t client_pid; /* the connection's peer */
    int *fds;            /* received descriptors in the order of the message */
    unsigned nfds;
    bool rehearsal;
    struct zy_stdkind kinds[3];
    char path0[4096];         /* sys.path[0] */
    char script[4096];        /* absolute, for WF_MODE_SCRIPT */
    bool has_path0, importer; /* importer: the script is a directory or zip with __main__ */
    unsigned status_kind, status_value;
};

/* worker.c: points argv and envp into the request's strings; false when memory is out. They are the
 * process's only ones. */
bool zy_job_point(struct zy_job *job);
/* rehearse.c: one run in the zygote, everything but a program's own effects. */
int zy_rehearse(struct wf_err *err);

/* setup.c: takes back what finding a script's path left in sys.path and its caches. */
void zy_forget_path(const struct zy_job *job);

uint64_t zy_own_start_time(void); /* field 22 of /proc/self/stat */

/* suit.c: 0, or an enum wf_reason with text. Touches nothing. */
unsigned zy_suits(struct zy_job *job, struct wf_err *err);
unsigned zy_suits_bounds(const struct wf_request *r, struct wf_err *err); /* once it is bounded */
/* The module that -m is to run has been preloaded. Not asked of the modules of a bare interpreter.
 */
bool zy_runs_preloaded(const struct zy_job *job);
/* setup.c: makes this process the caller's; the second half, when the request is bounded, what the
 * caller is held to. 0, or an enum wf_reason with text. */
unsigned zy_setup(struct zy_job *job, struct wf_err *err);
unsigned zy_setup_bounds(struct zy_job *job, struct wf_err *err);
void zy_setup_measure_mm(void); /* at start */
/* The step for the environment alone: C's environ is job->envp then, and os.environ the same. */
int zy_setup_environment(struct zy_job *job, struct wf_err *err);

/* stdio.c */
int zy_stdio_init(void);                                /* at warm-up: finds the stream objects */
int zy_stdio_prepare(const struct zy_stdkind kinds[3]); /* builds them for such files, on dummies */
void zy_stdio_measure(int fd, struct zy_stdkind *ret);
void zy_stdio_flush(void); /* the original streams, whatever became of sys.stdout */
int zy_stdio_take(const struct zy_job *job); /* after dup2: fits the objects to the real files */

/* changes.c: what warming up did to the environment (PEP 538's LC_CTYPE; a module that sets
 * variables). */
int zy_changes_find(const struct wf_request *request, struct wf_err *err);
void zy_changes_apply(struct zy_job *job); /* to job->envp, which has room */
unsigned zy_changes_room(void);            /* how many entries may be added */

/* run.c: runs the program; the answer is in job->status_*. */
void zy_run(struct zy_job *job);
/* 1: the script is a directory or zip file to import __main__ from; 0: it is not; -1 with an
 * exception. Fills job->script. */
int zy_run_find_importer(struct zy_job *job);
/* An exception ended the program: prints it as python does and sets the status. */
void zy_run_exception(struct zy_job *job);

/* finish.c: ends the program as python would have, sends the status, and exits. */
_Noreturn void zy_finish(struct zy_job *job);
void zy_finish_rehearse(struct zy_job *job);
void zy_finish_look(void); /* at what an end reads; changes nothing */

/* ending.c: what python does to itself at its end. */
int zy_ending_init(void);   /* at warm-up, before the heap is frozen; -1 with a Python exception */
void zy_ending_block(void); /* from here on nothing forks, where python is like that */
void zy_ending_begin(void); /* sys.is_finalizing() is true from here on */
void zy_ending_signals(void); /* what Python functions handled has its default action again */

/* foresee.c: a standby that is awake, and its processor's caches full, when its client connects.
 * zy_foresee_note is for each run that begins; zy_foresee_update for the zygote, before it forks;
 * zy_foresee_standby makes the standby's descriptors, and zy_foresee_wait returns when somebody
 * connects, or when accept() is to find out. */
void zy_foresee_note(pid_t client);
void zy_foresee_update(void);
void zy_foresee_standby(void);
void zy_foresee_wait(void);

/* tie.c: the program lives as long as its client. In a standby; not `armed`: it may outlive it. */
void zy_tie_prepare(bool armed);
void zy_tie_tell_end(const struct zy_job *job); /* and lets the client go first */
void zy_tie_await_end(int fd);
void zy_tie_tell_input(const struct zy_job *job);
/* A connection while the program runs. zy_tie_call asks the client for one and returns the
 * listener, or -1; zy_tie_answered takes that and returns the connection, or -1. */
int zy_tie_call(const struct zy_job *job);
int zy_tie_answered(const struct zy_job *job, int *listener);

/* pages.c: what a run touches. The first worker of each zygote (zy.learning) finds out, in a run
 * for a client of its own: zy_pages_client forks that and returns the connection, zy_pages_learn is
 * for after the run. */
int zy_pages_client(void);
void zy_pages_learn(void);
void zy_pages_copy(void); /* in every other worker */

/* terminal.c: the program's terminal, group and session. In a standby; and when it starts (`flags`:
 * of its WF_RUN). */
void zy_terminal_prepare(void);
void zy_terminal_arm(struct zy_job *job, unsigned flags);
/* At the program's end, while its descriptors are still open. */
void zy_terminal_leave(void);
/* It has a terminal of its own whose master nobody has but the client. */
bool zy_terminal_is_alone(void);

/* reseed.c: before the heap is frozen; in a standby. */
void zy_reseed_prepare(void);
void zy_reseed(void);

/* heap.c */
int zy_heap_init(void); /* huge-page arenas; as early as possible */
void zy_heap_freeze(void);
void zy_heap_freeze_again(
    void); /* after the rehearsal: collections then walk the program's objects alone */
void zy_heap_worker(
    void); /* after fork, in a worker: new memory is ordinary, collection as before */
void zy_heap_candidate(void); /* after fork, in a candidate */

/* inputs.c: what _observe.so noted, and the environment variables consulted while warming up. */
enum zy_observed {
    ZY_OBSERVED_VARIABLES,
    ZY_OBSERVED_FILES,
    ZY_OBSERVED_WRITTEN,
    ZY_OBSERVED_FOUND,
    ZY_OBSERVED_MISSING,
    ZY_OBSERVED_HERE,
    ZY_OBSERVED_LISTED,
}; /* observe_note.h says what they are */
int zy_observed(enum zy_observed kind, const char **ret_strings, size_t *ret_size,
                struct wf_err *err);
unsigned zy_observed_calls(const char *symbol); /* wf_observe_cwd */
void zy_observe(bool on);
/* Variables that C code asked for. `starting`: since python's start; it reads PATH then, to find
 * itself when its name has no slash, which ours always has. */
int zy_inputs_collect(bool starting, struct wf_err *err);
void zy_inputs_all(void); /* every variable counts */
void zy_inputs_add(const char *name, size_t size);
void zy_inputs_bind(const struct wf_request *request);             /* fixes their values */
bool zy_inputs_same_environment(const struct wf_request *request); /* byte for byte as at warm-up */
bool zy_inputs_match(const struct wf_request *request, const char **ret_name);

/* here.c: the working directory as an input. */
void zy_here_enter(void); /* imports run where the request was made */
void zy_here_leave(void);
/* Imports have asked for the directory: from now on it alone is served. False: it is to be
 * refused. */
bool zy_here_bind(void);
bool zy_here_is_lost(void);                    /* it is gone, or another one has its name */
int zy_here_collect(struct wf_err *err);       /* after imports: names that are missing there */
unsigned zy_here_asked(const char **ret_path); /* enum wf_asked; the directory, or "" */
bool zy_here_match(int cwd, const char **ret_name); /* else what differs there */

/* watch.c: files that what is loaded came from. */
int zy_watch_init(struct wf_err *err);
int zy_watch_dir(const char *path,
                 struct wf_err *err); /* anything in it that an import could find */
int zy_watch_file(const char *path,
                  struct wf_err *err); /* that name; what it links to; or its coming into being */
/* That name, when it is a directory or not there: its appearing or going. */
int zy_watch_name(const char *path, struct wf_err *err);
/* A directory that was listed: any name in it. */
int zy_watch_list(const char *path, struct wf_err *err);
bool zy_watch_dirty(void);       /* something is queued: do not serve */
const char *zy_watch_read(void); /* drains; the name of a change that matters, or NULL */

/* impure.c: what an import must not leave behind or ask for. */
struct zy_print;
struct zy_print *zy_print_take(int output, int input,
                               struct wf_err *err); /* before; freed by `free` */
/* Compares; true with the reason when what was imported must not be preloaded. */
bool zy_print_differs(const struct zy_print *before, char *reason, size_t size);

/* hazards.c: true with the reason when this process must not be forked: threads that stay (may fork
 * to find out), children, timers, descriptors and shared memory that are not the zygote's own. */
bool zy_hazards(char *reason, size_t size);

/* noted.c: modules that note the working directory when imported. How many of them have noted
 * `cwd`, "" for one that is gone; 0 or -1, when all have noted the one that is the program's. */
unsigned zy_noted_count(const char *cwd);
int zy_noted_renew(struct wf_err *err);

/* warmup.c */
int zy_warmup_base(struct wf_err *err); /* after boot: inputs and watches of the bare interpreter */
/* In a forked candidate: imports what the request names. May fork again and return in a grandchild;
 * leaves processes whose attempt failed behind. */
int zy_warmup_preload(struct wf_err *err);
