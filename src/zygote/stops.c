/* Stops of a program, told to its client; and stops of its client, which nobody is told of.
 *
 * SIGSTOP cannot be caught, and only the parent of a process, here the caller's shell, learns that
 * it has stopped: so clients are looked at, now and then, as long as their programs run. That a
 * client goes on needs no look: SIGCONT reaches the program by way of it. */
#include "zygote/zygote.h"

#include "base/io.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_stopped(pid_t pid) {
    char path[32], text[512];
    wf_fmt(path, sizeof path, "/proc/%d/stat", (int)pid);
    wf_read_text(AT_FDCWD, path, text, sizeof text);
    const char *end = strrchr(text, ')'); /* the name may hold anything */
    return end != NULL && strncmp(end, ") T", 3) == 0;
}

/* The client of the program in that slot, or 0: nobody wants to know. */
static pid_t client_of(unsigned slot) {
    pid_t client = (pid_t)atomic_load(&zy.shared->client[slot]);
    return client > 1 && atomic_load(&zy.shared->state[slot]) == ZY_TAKEN ? client : 0;
}

/* A client that is stopped reads no notice, but continues; one that is not has continued the
 * program itself. */
void zy_stops_tell(unsigned slot, int status) {
    pid_t client = client_of(slot);
    union sigval value = { .sival_int = (int)WF_STOP_NOTICE };
    if (client == 0)
        return;
    if (WIFSTOPPED(status)) {
        value.sival_int += WSTOPSIG(status);
        sigqueue(client, SIGCHLD, value);
    } else if (is_stopped(client)) {
        sigqueue(client, SIGCONT, value);
    }
}

bool zy_stops_expected(void) {
    for (unsigned i = 0; i < zy.slots_used; i++)
        if (zy.worker[i].pid != 0 && client_of(i) != 0)
            return true;
    return false;
}

void zy_stops_look(void) {
    static long long looked_us;
    long long now = wf_now_us();
    if (now - looked_us < ZY_STOPS_MS * 1000ll)
        return;
    looked_us = now;
    for (unsigned i = 0; i < zy.slots_used; i++) {
        pid_t client = client_of(i), program = zy.worker[i].pid;
        if (program == 0 || client == 0 || !is_stopped(client) || is_stopped(program))
            continue;
        kill(program, SIGSTOP);
        if (!is_stopped(client)) /* it may have continued the program before we stopped that */
            kill(program, SIGCONT);
    }
}
