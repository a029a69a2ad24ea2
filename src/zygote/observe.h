/* What _observe.so, preloaded into every zygote, tells _zygote.so of a program's terminal. Both
 * are in every worker; this is all that they know of each other besides inputs.c. */
#pragma once

enum wf_observe_use {
    WF_OBSERVE_READ,   /* reads, or waits for something to read */
    WF_OBSERVE_LOOK,   /* looks for something to read, and does not wait for it */
    WF_OBSERVE_CHANGE, /* changes it */
    WF_OBSERVE_ASK,    /* asks for what only the terminal's own session is told, and `ask` did not
                          answer */
};

/* Called before the program's call. */
struct wf_observe_terminal {
    void (*use)(int fd, enum wf_observe_use use);
    /* TIOCGPGRP or TIOCGSID: 1 and the answer, or 0 if the kernel is to be asked. */
    int (*ask)(int fd, unsigned long request, int *ret);
    const char *(*open)(const char *path); /* in /dev; returns the path that is to be opened */
    void (*process)(void); /* makes a process, becomes another program, or stops itself */
    void (*exit)(void);    /* ends at once */
    /* Makes itself the leader of a group, of a session: 1 if it is to succeed at once, 0 if the
     * kernel is to be asked. */
    int (*lead_group)(int pid, int group);
    int (*lead_session)(void);
};

/* NULL: nobody wants to know. */
extern const struct wf_observe_terminal *wf_observe_terminal;
