/* Stand-ins for what warmpy meets: a worker, a zygote's or the daemon's socket, and the
 * interpreter, so that every path of the client can be walked without one. */
#pragma once

#include "client/context.h"
#include "wire/wire.h"
#include "channel/channel.h"
#include <sys/types.h>

#define FAKE_PYTHON_STATUS 42 /* exit status of the stand-in for python: the run was cold */

/* One invocation of warmpy. Everything is fixed when it is made, so that its keys are known before
 * it runs. */
struct fake_call {
    char *argv[8192], *envp[64];
    int argc, envc;
    struct wf_context ctx;
    void (*in_child)(void); /* before execve, or NULL */
};

/* `argv` after the program's name, NULL-terminated. The runtime directory is test_dir(), the
 * interpreter this very program. Skips the test when $WARMPY does not name the binary. */
void fake_call_init(struct fake_call *call, const char *const *argv, const char *const *env);
/* Runs it; returns the wait status. */
int fake_call_run(const struct fake_call *call);
pid_t fake_call_start(const struct fake_call *call);
int fake_wait_status(pid_t pid);

/* What a worker does with the request it got; the result is the program's exit status. */
typedef int fake_program(const struct wf_message *message, const struct wf_request *request,
                         int connection);

enum fake_way {
    FAKE_EXIT,   /* STARTED, program, EXITED */
    FAKE_SIGNAL, /* EXITED says that this signal ended it */
    FAKE_VANISH, /* STARTED, then its own _exit without a word */
    FAKE_CRASH,  /* end of file instead of STARTED */
    FAKE_GARBAGE,
    FAKE_UNSUITABLE, /* `program` is not called; `value` is the reason */
};

/* A worker process that serves one request on route `key`.`variant`. It listens when this returns.
 */
pid_t fake_worker(const uint8_t key[WF_KEY_SIZE], unsigned variant, enum fake_way way, int value,
                  fake_program *program);

/* A listening socket in test_dir(); the caller closes it. */
int fake_listen(const char *name);
/* Accepts and receives one message there. */
int fake_accept(int listener, struct wf_message *ret);
