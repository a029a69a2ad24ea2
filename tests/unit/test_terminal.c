/* The client's side of a terminal: two real ones, and a stand-in for what the worker sends. */
#include "base/io.h"
#include "channel/channel.h"
#include "client/terminal.h"
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* A terminal's master; its slave in `ret_slave`. */
static int make_terminal(int *ret_slave) {
    int unlocked = 0, master = open(WF_DEV_PTMX, O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK(master >= 0 && ioctl(master, WF_TTY_UNLOCK, &unlocked) == 0);
    *ret_slave = ioctl(master, WF_TTY_PEER, (long)(O_RDWR | O_NOCTTY | O_CLOEXEC));
    CHECK(*ret_slave >= 0);
    return master;
}

static void set_single_keys(int terminal) {
    struct wf_modes modes;
    CHECK(ioctl(terminal, WF_TTY_MODES, &modes) == 0);
    modes.local &= ~(WF_LOCAL_CANONICAL | WF_LOCAL_ECHO);
    CHECK(ioctl(terminal, WF_TTY_SET_MODES, &modes) == 0);
}

/* A client that is killed while the caller's terminal is raw leaves it to the keeper, which must
 * know of that before: also when the keeper is still a message that nobody has read. */
TEST(keeper_is_told_before_the_terminal_is_raw) {
    int connection[2], keeper[2];
    struct wf_run run = { .tie = -1, .untie = -1, .pidfd = -1, .master = -1, .keeper = -1 };
    struct wf_terminal t = { .run = &run, .keeper = -1, .changes = -1, .foreground = true };
    CHECK(setsid() > 0 && signal(SIGHUP, SIG_IGN) != SIG_ERR); /* its end, below */
    int outer = make_terminal(&t.real);
    CHECK(ioctl(t.real, WF_TTY_CONTROLLING, 0) == 0);
    t.group = getpid();
    t.master = make_terminal(&t.slave);
    CHECK(ioctl(t.slave, WF_TTY_MODES, &t.modes) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, connection) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, keeper) == 0);
    wf_replies_init(&run.replies, connection[0]);
    CHECK(wf_channel_send(connection[1], WF_KEEPER, 0, NULL, 0, &keeper[0], 1, NULL) == 0);
    wf_close(&keeper[0]);

    set_single_keys(t.slave);
    wf_modes_follow(&t);

    struct wf_modes modes;
    CHECK(ioctl(t.real, WF_TTY_MODES, &modes) == 0);
    CHECK((modes.local & WF_LOCAL_CANONICAL) == 0 && (modes.output & WF_OUTPUT_PROCESSED) == 0);
    char commands[3] = "";
    CHECK_NUMBER(recv(keeper[1], commands, 1, MSG_DONTWAIT), 1); /* the two terminals with it */
    CHECK_NUMBER(recv(keeper[1], commands + 1, 1, MSG_DONTWAIT), 1);
    CHECK_STRING(commands, ((const char[]){ WF_KEEPER_FOREGROUND, WF_KEEPER_RAW, '\0' }));

    wf_run_done(&run);
    int *open[] = { &outer, &t.real, &t.master, &t.slave, &t.keeper, &connection[1], &keeper[1] };
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        wf_close(open[i]);
}
