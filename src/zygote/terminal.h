/* The program's terminal, between the files that deal with it: terminal.c decides, caller.c knows
 * of the caller's terminal, pty.c puts another in its place, session.c has the keeper.
 *
 * All of them call the kernel by hand wherever _observe.so stands in the way of the C library. */
#pragma once

#include "base/terminal.h"
#include "zygote/zygote.h"

#include <stdbool.h>
#include <stdint.h>

#define ZY_FD_BRIEF 900 /* what is open for a moment only, away from the program's numbers */

long zy_tty_control(int fd, unsigned long request, void *argument);
unsigned zy_tty_device(int fd); /* 0: not a terminal */
int zy_tty_open(const char *path, int flags);

/* The caller's terminal. */
struct zy_caller {
    unsigned device; /* 0: none that we know of */
    bool sought;     /* where no standard stream is it: whether the client has one */
    char name[64];   /* its path; "": has none, or nobody has asked */
};
/* Asks for the name by a descriptor of it. That looks into /proc, which takes 10 us at first. */
void zy_caller_name(struct zy_caller *c, int fd);
/* A descriptor of it, 0 to 2 or new; -1: there is none. */
int zy_caller_open(struct zy_caller *c, uint32_t client);
/* Whether the client is in the foreground of it. */
bool zy_caller_in_front(uint32_t client);
/* The group that is in the foreground of it instead: 0 if the client is, -1 if that is not known.
 */
int zy_caller_front(uint32_t client);

/* A pseudo-terminal with the modes and the size of the caller's. */
struct zy_pty {
    int real, master, slave; /* owned; real: the caller's */
    struct wf_modes modes;   /* that it began with */
    char name[32];           /* path of the slave */
};
/* `real` stays the caller's to close. zy_pty_done is due in any case. */
bool zy_pty_make(struct zy_pty *p, int real);
void zy_pty_done(struct zy_pty *p);
/* The slave in the place of every descriptor of that terminal. */
void zy_pty_replace(const struct zy_pty *p, unsigned device);

/* Starts the keeper of this session, tells the client over `connection`, and waits until stops work
 * and, for a program that is not in front, until the client has said so. Its pid, or 0. */
pid_t zy_session_keep(const struct zy_job *job, int connection, bool in_front);
/* This session loses its terminal. That raises SIGHUP here, which must not be seen: call it with
 * all signals blocked, and it is taken away again. */
void zy_session_drop_terminal(void);
/* Another group in the foreground of it; SIGTTOU is blocked from then on. */
void zy_session_put_in_front(pid_t group);
