#include "fake.h"

#include "base/io.h"
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Executed by warmpy as its interpreter, this program only says so. */
__attribute__((constructor)) static void pretend_python(void) {
    if (getenv("FAKE_PYTHON") != NULL)
        _exit(FAKE_PYTHON_STATUS);
}

/* A test's texts live as long as its process; from here the leak checker sees them, also when a
 * call is set up twice. */
static char *kept[256] __attribute__((used));
static unsigned kept_count;

static char *text(const char *format, const char *a, const char *b) {
    size_t size = strlen(a) + strlen(b) + 16;
    char *out = malloc(size);
    CHECK(out != NULL && kept_count < sizeof kept / sizeof *kept);
    kept[kept_count++] = out;
    wf_fmt(out, size, format[0] == '=' ? "%s=%s" : "%s%s", a, b);
    return out;
}

void fake_call_init(struct fake_call *call, const char *const *argv, const char *const *env) {
    char self[4096];
    struct wf_err err;
    const char *warmpy = getenv("WARMPY");
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    if (warmpy == NULL)
        test_skip("WARMPY does not name the binary");
    CHECK(size > 0);
    self[size] = '\0';
    memset(call, 0, sizeof *call);
    call->argv[call->argc++] = text("", warmpy, "");
    while (*argv != NULL)
        call->argv[call->argc++] = text("", *argv++, "");
    call->envp[call->envc++] = text("=", "WARMFORK_RUNTIME_DIR", test_dir());
    call->envp[call->envc++] = text("=", "WARMFORK_PYTHON", self);
    call->envp[call->envc++] = text("=", "PATH", "/nonexistent");
    call->envp[call->envc++] = text("=", "FAKE_PYTHON", "1");
    for (; *env != NULL; env++)
        call->envp[call->envc++] = text("", *env, "");
    wf_context_init(&call->ctx, (uint32_t)call->argc, call->argv, call->envp);
    CHECK(wf_context_python(&call->ctx, NULL, &err) == 0);
    const char *preload = wf_env_get(call->envp, "WARMFORK_PRELOAD");
    if (preload != NULL)
        call->ctx.preload = (struct wf_span){ (const uint8_t *)preload, (uint32_t)strlen(preload) };
    if (wf_context_key(&call->ctx, &err) != 0)
        test_fail(__FILE__, __LINE__, "%s", err.text);
}

pid_t fake_call_start(const struct fake_call *call) {
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (call->in_child)
            call->in_child();
        execve(call->argv[0], call->argv, call->envp);
        _exit(99);
    }
    return pid;
}

int fake_wait_status(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        CHECK(errno == EINTR);
    return status;
}

int fake_call_run(const struct fake_call *call) { return fake_wait_status(fake_call_start(call)); }

int fake_listen(const char *name) {
    struct wf_err err;
    int fd;
    if (wf_channel_listen(test_dir(), name, 16, &fd, &err) < 0)
        test_fail(__FILE__, __LINE__, "%s", err.text);
    return fd;
}

int fake_accept(int listener, struct wf_message *ret) {
    struct wf_err err;
    struct pollfd item = { .fd = listener, .events = POLLIN };
    if (poll(&item, 1, 10000) != 1)
        test_fail(__FILE__, __LINE__, "nobody connected");
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(fd >= 0);
    if (wf_channel_receive(fd, ret, NULL, 0, 10000, &err) != 1)
        test_fail(__FILE__, __LINE__, "%s", err.text);
    return fd;
}

static void send_started(int fd) {
    uint8_t room[64];
    struct wf_buf buf;
    struct wf_started started = { .pid = (uint32_t)getpid(), .cookie = 1 };
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    const int fds[WF_STARTED_FDS] = { pidfd, pidfd, pidfd };
    wf_buf_init_fixed(&buf, room, sizeof room);
    CHECK(pidfd >= 0 && wf_encode_started(&buf, &started));
    struct iovec part = { room, buf.size };
    CHECK(wf_channel_send(fd, WF_STARTED, 0, &part, 1, fds, WF_STARTED_FDS, NULL) == 0);
    close(pidfd);
}

static void send_exited(const struct wf_message *request, int fd, enum wf_end kind, int value) {
    if (request->header.flags & WF_F_NOTICES) {
        struct ucred peer;
        socklen_t size = sizeof peer;
        uint64_t notice = WF_NOTICE(WF_NOTICE_EXITED, (uint32_t)(kind << 8 | value));
        union sigval v = { .sival_ptr = (void *)(uintptr_t)notice };
        CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0);
        CHECK(sigqueue(peer.pid, WF_NOTICE_SIGNAL, v) == 0);
        return;
    }
    uint8_t room[64];
    struct wf_buf buf;
    struct wf_exited end = { .kind = kind, .value = (uint32_t)value };
    wf_buf_init_fixed(&buf, room, sizeof room);
    CHECK(wf_encode_exited(&buf, &end));
    struct iovec part = { room, buf.size };
    CHECK(wf_channel_send(fd, WF_EXITED, 0, &part, 1, NULL, 0, NULL) == 0);
}

static void send_unsuitable(int fd, int reason) {
    static const char why[] = "the test says so";
    uint8_t room[256];
    struct wf_buf buf;
    struct wf_text message = { .code = (uint32_t)reason,
                               .text = { (const uint8_t *)why, sizeof why - 1 } };
    wf_buf_init_fixed(&buf, room, sizeof room);
    CHECK(wf_encode_text(&buf, &message));
    struct iovec part = { room, buf.size };
    CHECK(wf_channel_send(fd, WF_UNSUITABLE, 0, &part, 1, NULL, 0, NULL) == 0);
}

static void receive_bounds(int fd, struct wf_request *r) {
    static uint8_t storage[WF_BOUNDS_MAX];
    static struct wf_message message;
    CHECK(!r->bounded && r->place.ns[WF_NS_USER] == 0);
    CHECK(wf_channel_receive(fd, &message, storage, sizeof storage, 5000, NULL) == 1);
    CHECK_NUMBER(message.header.type, WF_BOUNDS);
    CHECK(wf_decode_bounds(message.payload, message.header.size, r) == NULL);
    CHECK(r->bounded && r->cpus.size > 0 && r->place.ns[WF_NS_USER] != 0);
}

static int serve(int fd, const struct wf_message *message, enum fake_way way, int value,
                 fake_program *program) {
    struct wf_request request;
    char end;
    const char *wrong = wf_decode_request(message->payload, message->header.size, &request);
    if (wrong != NULL)
        test_fail(__FILE__, __LINE__, "request: %s", wrong);
    CHECK_NUMBER(message->header.type, WF_RUN);
    CHECK_NUMBER(message->nfds, wf_request_nfds(WF_RUN, &request));
    if (way == FAKE_CRASH)
        return 1;
    if (way == FAKE_GARBAGE)
        return wf_write_full(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    if (way == FAKE_UNSUITABLE) {
        send_unsuitable(fd, value);
        return 0;
    }
    receive_bounds(fd, &request);
    send_started(fd);
    if (program != NULL)
        value = program(message, &request, fd);
    if (way == FAKE_VANISH)
        return value;
    send_exited(message, fd, way == FAKE_SIGNAL ? WF_END_SIGNAL : WF_END_EXIT, value);
    CHECK(read(fd, &end, 1) == 0); /* as a worker does: the client's end of file */
    return 0;
}

pid_t fake_worker(const uint8_t key[WF_KEY_SIZE], unsigned variant, enum fake_way way, int value,
                  fake_program *program) {
    char name[48];
    wf_route_name(key, variant, false, name);
    int listener = fake_listen(name);
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        static struct wf_message message;
        alarm(30);
        int fd = fake_accept(listener, &message);
        close(listener);
        _exit(serve(fd, &message, way, value, program));
    }
    close(listener);
    return pid;
}
