/* The keeper of a program's session: warmpy once more, executed by the worker when its program does
 * more with its pseudo-terminal than to ask (src/zygote/terminal.c), because some things can only
 * be done from within a session:
 *
 * - its process group has a member whose parent is of the session but not of the group. Without
 * that the group is an orphan to the kernel, where Ctrl-Z and its like are ignored;
 * - it changes the foreground group for the client, which is of another session;
 * - when the client dies of SIGKILL it gives the caller's terminal the modes that the program had.
 *
 * It leads a group of its own. Descriptors: 0 the client's socket, 1 is told, a byte each, when
 * that member is there and when the first command has been carried out. The keeper does what the
 * bytes in the socket say, until end of file; with the first of them come the master of the pty and
 * the caller's terminal.
 */
#pragma once

enum wf_keeper_command {
    WF_KEEPER_FOREGROUND = 'F', /* the program's group is in the foreground */
    WF_KEEPER_BACKGROUND = 'B', /* the keeper is */
    WF_KEEPER_CONTINUE = 'C',   /* SIGCONT to the program's group; answered by the same byte */
    WF_KEEPER_KILL =
        'K',                  /* followed by a signal that ends the program: as its leader ends, the
                                 session hangs up its foreground group, which shall not be its children */
    WF_KEEPER_RAW = 'R',      /* the caller's terminal is raw: restore it if the client dies */
    WF_KEEPER_RESTORED = 'O', /* it is not */
};

#define WF_MEMBER_NAME "warmpy:member" /* of the process that is there for the first of these */

/* Returns the exit status. */
int wf_keeper_main(void);
