/* Terminals as the kernel sees them: the C libraries disagree about struct termios, and none of
 * them has all of these requests. */
#pragma once

#include <stdint.h>

/* struct termios2: modes with any speed. */
struct wf_modes {
    uint32_t input, output, control, local;
    uint8_t line, key[19];
    uint32_t in_speed, out_speed;
};

#define WF_TTY_MODES 0x802c542aul     /* TCGETS2: struct wf_modes */
#define WF_TTY_SET_MODES 0x402c542bul /* TCSETS2: at once */
#define WF_TTY_DEVICE 0x80045432ul  /* TIOCGDEV: unsigned; which terminal, however it was opened */
#define WF_TTY_SESSION 0x5429ul     /* TIOCGSID: pid_t; only for the controlling terminal */
#define WF_TTY_GROUP 0x540ful       /* TIOCGPGRP: pid_t */
#define WF_TTY_SET_GROUP 0x5410ul   /* TIOCSPGRP: pid_t */
#define WF_TTY_SIZE 0x5413ul        /* TIOCGWINSZ: uint16_t[4] */
#define WF_TTY_SET_SIZE 0x5414ul    /* TIOCSWINSZ */
#define WF_TTY_CONTROLLING 0x540eul /* TIOCSCTTY */
#define WF_TTY_UNLOCK 0x40045431ul  /* TIOCSPTLCK: int 0 */
#define WF_TTY_NUMBER 0x80045430ul  /* TIOCGPTN: unsigned; of a master only */
#define WF_TTY_PEER 0x5441ul        /* TIOCGPTPEER: opens the slave of a master */
#define WF_TTY_PACKETS 0x5420ul     /* TIOCPKT: int */
#define WF_TTY_SIGNAL 0x40045436ul  /* TIOCSIG: to the foreground group behind a master */
#define WF_TTY_FLUSH 0x540bul       /* TCFLSH */
#define WF_TTY_TYPE 0x5412ul        /* TIOCSTI: char, as if it had been typed */
#define WF_TTY_WAITING 0x541bul     /* FIONREAD: int */

/* What struct wf_modes is asked about: Linux's generic numbering. */
#define WF_INPUT_RAW_OFF 0x5ebu /* IGNBRK BRKINT PARMRK ISTRIP INLCR IGNCR ICRNL IXON */
#define WF_OUTPUT_PROCESSED 0x1u
#define WF_OUTPUT_NEWLINE 0x4u /* ONLCR */
#define WF_LOCAL_SIGNALS 0x1u  /* ISIG */
#define WF_LOCAL_CANONICAL 0x2u
#define WF_LOCAL_ECHO 0x8u
#define WF_LOCAL_ECHO_NEWLINE 0x40u
#define WF_LOCAL_NO_FLUSH 0x80u
#define WF_LOCAL_STOP_OUTPUT 0x100u /* TOSTOP */
#define WF_LOCAL_EXTENDED 0x8000u
#define WF_KEY_INTERRUPT 0
#define WF_KEY_QUIT 1
#define WF_KEY_END 4
#define WF_KEY_TIME 5
#define WF_KEY_LEAST 6
#define WF_KEY_SUSPEND 10
#define WF_KEY_LITERAL 15

#define WF_DEV_PTMX "/dev/ptmx"
#define WF_DEV_TTY "/dev/tty"
