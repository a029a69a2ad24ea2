/* Zygotes outlive the daemon that started them. At start, each control socket in the runtime
 * directory is asked to make this daemon its own; the answers come through the loop. Sockets that
 * nobody listens on are removed. */
#include "daemon/daemon.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "KEY.N" or "KEY.N.ctl". */
static bool parse_route(const char *name, uint8_t ret_key[WF_KEY_SIZE], unsigned *ret_variant,
                        bool *ret_control) {
    for (int i = 0; i < 2 * WF_KEY_SIZE; i++) {
        int digit = hex_digit(name[i]);
        if (digit < 0)
            return false;
        ret_key[i / 2] = (uint8_t)(i % 2 ? ret_key[i / 2] | digit : digit << 4);
    }
    name += 2 * WF_KEY_SIZE;
    if (name[0] != '.' || name[1] < '0' || name[1] >= '0' + WF_VARIANTS)
        return false;
    *ret_variant = (unsigned)(name[1] - '0');
    *ret_control = strcmp(name + 2, ".ctl") == 0;
    return *ret_control || name[2] == '\0';
}

/* Like wf_channel_connect, but a listener whose queue is full is not waited for (EAGAIN). */
static int connect_now(const struct daemon *d, const char *name, struct wf_err *err) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    wf_fmt(address.sun_path, sizeof address.sun_path, "%s/%s", d->rundir, name);
    WF_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return wf_err_sys(err, "socket", name);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return wf_err_sys(err, "connect", name);
    if (wf_channel_check_peer(fd, NULL, err) < 0)
        return -1;
    fcntl(fd, F_SETFL, 0);
    return wf_steal_fd(&fd);
}

static void adopt(struct daemon *d, const char *name, const uint8_t key[WF_KEY_SIZE],
                  unsigned variant) {
    static const uint8_t unknown[WF_KEY_SIZE];
    struct wf_err err;
    int fd = connect_now(d, name, &err);
    if (fd < 0) {
        wf_log(WF_LOG_INFO, "%s: not adopted: %s", name, err.text);
        if (err.code == ECONNREFUSED)
            unlinkat(d->rundir_fd, name, 0);
        return;
    }
    struct wd_zygote *z = wd_zygote_new(d, key, unknown);
    if (!z) {
        close(fd);
        return;
    }
    z->variant = variant;
    z->deadline_us = wf_now_us() + WD_ADOPT_US;
    if (wd_control_watch(d, z, fd, &err) < 0 || wd_send(fd, WF_ADOPT, "", 0, NULL, &err) < 0) {
        wf_log(WF_LOG_WARN, "%s: not adopted: %s", name, err.text);
        z->state = ZS_DEAD;
        return;
    }
    wd_zygote_event(d, z, ZE_ADOPT);
}

/* A run socket's listener may be busy, but it is there; connecting to one that is would use up a
 * standby. */
static bool has_control(const struct daemon *d, const uint8_t key[WF_KEY_SIZE], unsigned variant) {
    char name[48];
    wf_route_name(key, variant, true, name);
    return faccessat(d->rundir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void drop_if_dead(struct daemon *d, const char *name) {
    struct wf_err err;
    WF_AUTO_FD fd = connect_now(d, name, &err);
    if (fd < 0 && err.code == ECONNREFUSED)
        unlinkat(d->rundir_fd, name, 0);
}

void wd_adopt_all(struct daemon *d) {
    uint8_t key[WF_KEY_SIZE];
    unsigned variant;
    bool control;
    for (int pass = 0; pass < 2;
         pass++) { /* control sockets first: a dead one takes its run socket along */
        DIR *dir = opendir(d->rundir);
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
            if (!parse_route(entry->d_name, key, &variant, &control))
                continue;
            if (pass == 0 && control)
                adopt(d, entry->d_name, key, variant);
            else if (pass == 1 && !control && !has_control(d, key, variant))
                drop_if_dead(d, entry->d_name);
        }
        if (dir)
            closedir(dir);
    }
}
