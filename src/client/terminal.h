/* The caller's terminal while the program has one of its own (docs/design.md, "Terminal").
 *
 * Output is passed on as it comes. The caller's terminal keeps its modes, its echo and its line
 * editing, and gets the program's modes when the program changes them; only where these are not
 * line by line is it made raw, and every key passed on. A line is passed on only once somebody
 * waits for it: what nobody reads stays for whoever comes next. */
#pragma once

#include "base/terminal.h"
#include "client/keeper.h"
#include "client/run.h"

#include <stdbool.h>
#include <stddef.h>

#define WF_RELAY_ROOM 65536

struct wf_terminal {
    struct wf_run *run;
    int signals;       /* signalfd */
    int keeper;        /* its socket, -1: there is none yet */
    int master, slave; /* of the program's terminal; master -1: the caller's is gone */
    int real;          /* the caller's, opened anew: O_NONBLOCK is ours alone */
    int changes;       /* epoll descriptor: readable when the program's modes may have changed */
    int group;         /* our process group */
    bool foreground;   /* as far as we know */
    bool keys;         /* the program has asked for single keys */
    bool raw;          /* so the caller's terminal is raw */
    bool literal;      /* the last key said that the next one has no special meaning */
    struct wf_modes modes; /* the program's terminal, as we saw it last */
    struct wf_modes outer; /* the caller's, likewise */
    int wait_ms;           /* how long not to look whether somebody waits for input; 0: look */
    long long look_us;     /* if so, until when (wf_now_us) */
    bool held;             /* a carriage return, see relay.c */
    bool flushed;          /* the next report of flushed input is of our own doing */
    size_t out_from, out_to, in_from, in_to;
    uint8_t *out, *in; /* out: WF_RELAY_ROOM, in: WF_RELAY_ROOM / 8 */
};

/* Takes over when run->master has come; returns when the run has ended and all its output is out.
 */
void wf_terminal_follow(struct wf_run *run, int signals);

/* modes.c: the two terminals in step. */
int wf_modes_watch(int slave); /* the descriptor `changes`, or -1 */
void wf_modes_forget_change(const struct wf_terminal *t);
/* What the program has set meanwhile is set for the caller's terminal as well. */
void wf_modes_follow(struct wf_terminal *t);
void wf_modes_follow_early(struct wf_terminal *t); /* with output that is not written yet */
void wf_modes_leave_raw(struct wf_terminal *t);
void wf_modes_copy_size(const struct wf_terminal *t);
void wf_modes_find_place(struct wf_terminal *t); /* in the foreground? */
void wf_modes_notice_foreground(struct wf_terminal *t);
void wf_modes_resume(struct wf_terminal *t); /* after a stop of this process */

/* job.c: signals, stops, the keeper. */
void wf_keeper_command(const struct wf_terminal *t, enum wf_keeper_command what);
void wf_keeper_take(struct wf_terminal *t); /* if one has come; its first command brings the two
                                               terminals with it */
/* A byte with one or two descriptors. */
bool wf_terminal_pass(int socket, char byte, const int *fds, unsigned count);
void wf_terminal_take_signals(struct wf_terminal *t);
/* The caller's terminal is gone. A program in the foreground learns of it as it always would: by
 * the end of its own. */
void wf_terminal_hang_up(struct wf_terminal *t);

/* relay.c */
enum wf_relayed {
    WF_RELAYED_ALL,     /* nothing is left for now */
    WF_RELAYED_MORE,    /* there may be more: give others a turn */
    WF_RELAYED_BLOCKED, /* the caller's terminal takes no more for now */
    WF_RELAYED_END,     /* nobody has the program's terminal open any more */
};
enum wf_relayed wf_relay_output(struct wf_terminal *t);
/* Passes on what was typed, as far as somebody wants it. */
void wf_relay_input(struct wf_terminal *t);
void wf_relay_look_again(struct wf_terminal *t, int after_ms);
/* What was passed on, and not read, is as if it had been typed now; where the kernel allows that.
 */
void wf_relay_give_back(struct wf_terminal *t);

/* readers.c: whether a process of the program's foreground group waits for something to read, as
 * far as /proc tells; where it does not, yes. */
bool wf_readers_wait(const struct wf_terminal *t);
