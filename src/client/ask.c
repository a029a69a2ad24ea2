#include "client/ask.h"

#include "base/cleanup.h"
#include "channel/channel.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "client/python.h"

#define REAPED_TIMEOUT_MS 2000
#define ANSWER_TIMEOUT_MS 3000

struct pidfd_info_0 { /* the first published layout of struct pidfd_info; <linux/pidfd.h> is mostly
                         older */
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
};
#define PIDFD_GET_INFO_0 _IOWR(0xFF, 11, struct pidfd_info_0)
#define PIDFD_INFO_EXIT_BIT 8u

_Static_assert(sizeof(struct pidfd_info_0) == 64, "PIDFD_GET_INFO encodes this size");

extern char **environ;

static void from_status(int status, struct wf_exited *ret) {
    if (WIFEXITED(status))
        *ret = (struct wf_exited){ .kind = WF_END_EXIT, .value = (uint32_t)WEXITSTATUS(status) };
    else
        *ret = (struct wf_exited){ .kind = WF_END_SIGNAL,
                                   .value = (uint32_t)WTERMSIG(status),
                                   .core = WCOREDUMP(status) ? 1 : 0 };
}

/* The kernel tells once the process has been reaped, which wakes pollers with POLLHUP. */
static bool ask_kernel(int pidfd, struct wf_exited *ret) {
    const char *debug = wf_env_get(environ, "WARMFORK_DEBUG");
    if (debug != NULL && strcmp(debug, "no-pidfd-info") == 0)
        return false;
    for (int attempt = 0; attempt < 2; attempt++) {
        struct pidfd_info_0 info = { .mask = PIDFD_INFO_EXIT_BIT };
        if (ioctl(pidfd, PIDFD_GET_INFO_0, &info) < 0)
            return false;
        if (info.mask & PIDFD_INFO_EXIT_BIT) {
            from_status(info.exit_code, ret);
            return true;
        }
        struct pollfd item = { .fd = pidfd, .events = 0 };
        poll(&item, 1, attempt == 0 ? REAPED_TIMEOUT_MS : 0);
    }
    return false;
}

static bool ask_socket(const struct wf_run *run, const char *name, struct wf_exited *ret) {
    uint8_t room[64], answer_room[64];
    struct wf_buf buf;
    struct wf_message answer;
    struct wf_exited end;
    bool known = false;
    WF_AUTO_FD fd = -1;
    wf_buf_init_fixed(&buf, room, sizeof room);
    if (!wf_encode_started(&buf, &run->started) ||
        wf_channel_connect(run->rundir, name, &fd, NULL) < 0)
        return false;
    const struct iovec part = { room, buf.size };
    if (wf_channel_send(fd, WF_ASK, 0, &part, 1, NULL, 0, NULL) < 0 ||
        wf_channel_receive(fd, &answer, answer_room, sizeof answer_room, ANSWER_TIMEOUT_MS, NULL) !=
            1)
        return false;
    if (answer.header.type == WF_ANSWER &&
        wf_decode_exited(answer.payload, answer.header.size, &end) == NULL &&
        (end.kind == WF_END_EXIT || end.kind == WF_END_SIGNAL)) {
        *ret = end;
        known = true;
    }
    wf_message_done(&answer);
    return known;
}

void wf_ask_end(struct wf_run *run, struct wf_exited *ret) {
    char control[48];
    if (run->pidfd >= 0 && ask_kernel(run->pidfd, ret))
        return;
    wf_route_name(run->key, run->variant, true, control);
    if (ask_socket(run, control, ret) || ask_socket(run, "daemon.sock", ret))
        return;
    *ret = (struct wf_exited){ .kind = WF_END_SIGNAL, .value = SIGKILL };
}
