/* The client: what warmpy does with every kind of answer. */
#include "base/io.h"
#include "fake.h"
#include "test.h"
#include "warmfork.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static struct fake_call call;

static int want_exit(int status) {
    if (!WIFEXITED(status))
        test_fail(__FILE__, __LINE__, "wait status %#x", (unsigned)status);
    return WEXITSTATUS(status);
}

TEST(exit_status_comes_through) {
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    pid_t worker = fake_worker(call.ctx.key, 0, FAKE_EXIT, 17, NULL);
    CHECK_NUMBER(want_exit(fake_call_run(&call)), 17);
    CHECK_NUMBER(fake_wait_status(worker), 0);
}

TEST(death_by_signal_comes_through) {
    static const int signals[] = { SIGHUP,  SIGINT,  SIGABRT, SIGKILL, SIGSEGV,
                                   SIGPIPE, SIGTERM, SIGXCPU, 33,      64 };
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        pid_t worker = fake_worker(call.ctx.key, 0, FAKE_SIGNAL, signals[i], NULL);
        int status = fake_call_run(&call);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signals[i] && !WCOREDUMP(status));
        CHECK_NUMBER(fake_wait_status(worker), 0);
    }
}

/* The first run of a context: cold, and the daemon is told, with options cut apart. */
TEST(missing_route_runs_cold_and_asks) {
    struct wf_message message;
    struct wf_request request;
    fake_call_init(&call, ARGS("-Icpass", "arg"), ARGS("X=y"));
    int daemon = fake_listen("daemon.sock");
    CHECK_NUMBER(want_exit(fake_call_run(&call)), FAKE_PYTHON_STATUS);
    int fd = fake_accept(daemon, &message);
    CHECK_NUMBER(message.header.type, WF_WARM);
    CHECK(wf_decode_request(message.payload, message.header.size, &request) == NULL);
    CHECK(memcmp(request.key, call.ctx.key, WF_KEY_SIZE) == 0);
    CHECK_NUMBER(request.options, 1);
    CHECK_NUMBER(request.target, 2);
    CHECK_NUMBER(request.target_offset, 2);
    CHECK_STRING(wf_request_string(&request, 1), "-I");
    CHECK_STRING(wf_request_string(&request, 2), "-cpass");
    CHECK_STRING(wf_request_string(&request, 3), "arg");
    CHECK_STRING(wf_request_string(&request, 4), call.envp[0]);
    wf_message_done(&message);
    close(fd);
    close(daemon);
}

static void check_cold(enum fake_way way, int value) {
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    int daemon = fake_listen("daemon.sock");
    pid_t worker = fake_worker(call.ctx.key, 0, way, value, NULL);
    CHECK_NUMBER(want_exit(fake_call_run(&call)), FAKE_PYTHON_STATUS);
    fake_wait_status(worker);
    close(daemon);
}

TEST(crash_before_the_start_runs_cold) { check_cold(FAKE_CRASH, 0); }
TEST(garbage_runs_cold) { check_cold(FAKE_GARBAGE, 0); }
TEST(unsuitable_place_runs_cold) { check_cold(FAKE_UNSUITABLE, WF_WHY_PLACE); }
TEST(stale_runs_cold) { check_cold(FAKE_UNSUITABLE, WF_WHY_STALE); }

TEST(other_inputs_try_the_next_variant) {
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    pid_t first = fake_worker(call.ctx.key, 0, FAKE_UNSUITABLE, WF_WHY_INPUTS, NULL);
    pid_t second = fake_worker(call.ctx.key, 1, FAKE_EXIT, 5, NULL);
    CHECK_NUMBER(want_exit(fake_call_run(&call)), 5);
    CHECK_NUMBER(fake_wait_status(first), 0);
    CHECK_NUMBER(fake_wait_status(second), 0);
}

static int no_preload(const struct wf_message *message, const struct wf_request *request,
                      int connection) {
    (void)message;
    (void)connection;
    return memcmp(request->key, request->base_key, WF_KEY_SIZE) == 0 && request->preload.size == 0
               ? 6
               : 1;
}

TEST(missing_preload_uses_the_base_and_asks) {
    struct wf_message message;
    struct wf_request request;
    fake_call_init(&call, ARGS("-c", "pass"), ARGS("WARMFORK_PRELOAD=json,re"));
    CHECK(memcmp(call.ctx.key, call.ctx.base_key, WF_KEY_SIZE) != 0);
    int daemon = fake_listen("daemon.sock");
    pid_t worker = fake_worker(call.ctx.base_key, 0, FAKE_EXIT, 0, no_preload);
    CHECK_NUMBER(want_exit(fake_call_run(&call)), 6);
    int fd = fake_accept(daemon, &message);
    CHECK(wf_decode_request(message.payload, message.header.size, &request) == NULL);
    CHECK(memcmp(request.key, call.ctx.key, WF_KEY_SIZE) == 0);
    CHECK(request.preload.size == 7 && memcmp(request.preload.data, "json,re", 7) == 0);
    wf_message_done(&message);
    fake_wait_status(worker);
    close(fd);
    close(daemon);
}

/* Died without a word: the kernel tells, once the "zygote" (this process) has reaped it. */
static int run_vanishing(const char *const *env) {
    fake_call_init(&call, ARGS("-c", "pass"), env);
    pid_t worker = fake_worker(call.ctx.key, 0, FAKE_VANISH, 7, NULL);
    pid_t client = fake_call_start(&call);
    fake_wait_status(worker);
    return client;
}

TEST(nobody_knows_how_it_ended) {
    int status = fake_wait_status(run_vanishing(ARGS("WARMFORK_DEBUG=no-pidfd-info")));
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST(kernel_knows_how_it_ended) {
    int status = fake_wait_status(run_vanishing(ARGS()));
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        test_skip("PIDFD_GET_INFO without PIDFD_INFO_EXIT");
    CHECK_NUMBER(want_exit(status), 7);
}

TEST(zygote_knows_how_it_ended) {
    char name[48];
    uint8_t room[64];
    struct wf_buf buf;
    struct wf_message message;
    struct wf_exited end = { .kind = WF_END_EXIT, .value = 9 };
    fake_call_init(&call, ARGS("-c", "pass"), ARGS("WARMFORK_DEBUG=no-pidfd-info"));
    wf_route_name(call.ctx.key, 0, true, name);
    int control = fake_listen(name);
    pid_t client = run_vanishing(ARGS("WARMFORK_DEBUG=no-pidfd-info"));
    int fd = fake_accept(control, &message);
    CHECK_NUMBER(message.header.type, WF_ASK);
    wf_buf_init_fixed(&buf, room, sizeof room);
    CHECK(wf_encode_exited(&buf, &end));
    struct iovec part = { room, buf.size };
    CHECK(wf_channel_send(fd, WF_ANSWER, 0, &part, 1, NULL, 0, NULL) == 0);
    CHECK_NUMBER(want_exit(fake_wait_status(client)), 9);
    wf_message_done(&message);
    close(fd);
    close(control);
}

static int wait_for_signal(const struct wf_message *message, const struct wf_request *request,
                           int connection) {
    siginfo_t info;
    sigset_t set;
    (void)message;
    (void)connection;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    sigaddset(&set, SIGTERM);
    /* Both were blocked before the fork, so that none can come too early. */
    CHECK(kill((pid_t)request->pid, SIGTERM) == 0);
    CHECK(sigwaitinfo(&set, &info) == SIGTERM);
    CHECK(sigqueue((pid_t)request->pid, SIGRTMIN + 3, (union sigval){ .sival_int = 4711 }) == 0);
    CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 3);
    return info.si_code == SI_QUEUE && info.si_value.sival_int == 4711 ? 8 : 1;
}

static void unblock_all(void) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

TEST(signals_are_handed_on) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    call.in_child = unblock_all;
    pid_t worker = fake_worker(call.ctx.key, 0, FAKE_EXIT, 0, wait_for_signal);
    CHECK_NUMBER(want_exit(fake_call_run(&call)), 8);
    CHECK_NUMBER(fake_wait_status(worker), 0);
}

static int said[2], told[2];

static int report_and_wait(const struct wf_message *message, const struct wf_request *request,
                           int connection) {
    char byte = 0;
    (void)message;
    (void)request;
    (void)connection;
    return write(said[1], &byte, 1) == 1 && read(told[0], &byte, 1) == 1 ? 15 : 1;
}

static void own_group(void) {
    setpgid(0, 0);
} /* with a parent in the same session: not orphaned, so it can be stopped */

TEST(stops_with_the_program) {
    int status;
    char byte = 0;
    CHECK(pipe2(said, O_CLOEXEC) == 0 && pipe2(told, O_CLOEXEC) == 0);
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    call.in_child = own_group;
    pid_t worker = fake_worker(call.ctx.key, 0, FAKE_EXIT, 0, report_and_wait);
    pid_t client = fake_call_start(&call);
    CHECK(read(said[0], &byte, 1) == 1);
    kill(client, SIGTSTP);
    CHECK(waitpid(client, &status, WUNTRACED) == client && WIFSTOPPED(status) &&
          WSTOPSIG(status) == SIGTSTP);
    CHECK(waitpid(worker, &status, WUNTRACED) == worker && WIFSTOPPED(status) &&
          WSTOPSIG(status) == SIGSTOP);
    kill(client, SIGCONT);
    CHECK(waitpid(worker, &status, WCONTINUED) == worker && WIFCONTINUED(status));
    CHECK(write(told[1], &byte, 1) == 1);
    CHECK_NUMBER(want_exit(fake_wait_status(client)), 15);
    CHECK_NUMBER(fake_wait_status(worker), 0);
    for (int i = 0; i < 2; i++) {
        close(said[i]);
        close(told[i]);
    }
}

static void odd_state(void) {
    int pipe_ends[2];
    struct rlimit limit = { 1000, 4000 };
    if (mkdir("gone", 0700) != 0 || chdir("gone") != 0 || rmdir("../gone") != 0 ||
        pipe(pipe_ends) != 0)
        _exit(98);
    dup2(pipe_ends[0], 9);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    close(0);
    umask(0123);
    signal(SIGINT, SIG_DFL); /* a shell ignores them for what it starts in the background */
    signal(SIGQUIT, SIG_DFL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    setrlimit(RLIMIT_NOFILE, &limit);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

static uint64_t bit(int sig) { return 1ull << (sig - 1); }

static int check_odd_state(const struct wf_message *message, const struct wf_request *r,
                           int connection) {
    struct stat st;
    (void)connection;
    CHECK_NUMBER(r->stdio, 6);
    CHECK_NUMBER(message->nfds, 4); /* stdout, stderr, cwd, 9 */
    CHECK(r->fdnums.size == 4 && r->fdnums.data[0] == 9);
    CHECK_NUMBER(r->umask, 0123);
    uint64_t internal = bit(32) | bit(33); /* ignored by what glibc's posix_spawn starts, as make */
    CHECK((r->sig_ignored & ~internal) == (bit(SIGHUP) | bit(SIGUSR2)));
    CHECK(r->sig_blocked == bit(SIGUSR1));
    CHECK(r->limit[RLIMIT_NOFILE].soft == 1000 && r->limit[RLIMIT_NOFILE].hard == 4000);
    CHECK(fstat(message->fds[2], &st) == 0 && S_ISDIR(st.st_mode) && st.st_nlink == 0);
    CHECK(fstat(message->fds[3], &st) == 0 && S_ISFIFO(st.st_mode));
    return 11;
}

TEST(the_caller_is_described_exactly) {
    CHECK(chdir(test_dir()) == 0);
    for (int fd = 3; fd < 256; fd++) /* what the test runner itself has inherited must not count */
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    call.in_child = odd_state;
    pid_t worker = fake_worker(call.ctx.key, 0, FAKE_EXIT, 0, check_odd_state);
    CHECK_NUMBER(want_exit(fake_call_run(&call)), 11);
    CHECK_NUMBER(fake_wait_status(worker), 0);
}

static void large_stack(void) {
    struct rlimit limit = { 64 << 20, RLIM_INFINITY };
    getrlimit(RLIMIT_STACK, &limit);
    limit.rlim_cur = 64 << 20;
    setrlimit(RLIMIT_STACK, &limit);
}

static int check_large(const struct wf_message *message, const struct wf_request *r,
                       int connection) {
    (void)connection;
    CHECK(message->map != NULL);
    CHECK_NUMBER(r->argc, 3003);
    CHECK_STRING(wf_request_string(r, 3002), "argument");
    CHECK(r->strings.size > 2 << 20);
    for (uint32_t i = 0; i < r->envc; i++)
        CHECK_STRING(wf_request_string(r, r->argc + i), call.envp[i]);
    return 12;
}

TEST(large_requests) {
    static char large[100001];
    memset(large, 'x', sizeof large - 1);
    memcpy(large, "L=", 2);
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    while (call.argc < 3003)
        call.argv[call.argc++] = "argument";
    for (int i = 0; i < 21; i++)
        call.envp[call.envc++] = large;
    call.in_child = large_stack;
    pid_t worker = fake_worker(call.ctx.key, 0, FAKE_EXIT, 0, check_large);
    CHECK_NUMBER(want_exit(fake_call_run(&call)), 12);
    CHECK_NUMBER(fake_wait_status(worker), 0);
}

/* A child of the program keeps the connection: the end of the worker itself must be enough. */
static int leave_child(const struct wf_message *message, const struct wf_request *r,
                       int connection) {
    (void)message;
    (void)r;
    if (fork() == 0) {
        char end;
        _exit(read(connection, &end, 1) == 0 ? 0 : 1);
    }
    return 13;
}

TEST(child_that_keeps_the_connection) {
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    pid_t worker = fake_worker(call.ctx.key, 0, FAKE_VANISH, 0, leave_child);
    pid_t client = fake_call_start(&call);
    CHECK_NUMBER(want_exit(fake_wait_status(worker)), 13);
    int status = fake_wait_status(client);
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 13);
}

/* The client's own copies of the caller's descriptors must not keep a pipe open that the program
 * has closed. */
static int pipe_ends[2];

static int close_stdout(const struct wf_message *message, const struct wf_request *r,
                        int connection) {
    struct pollfd item = { .fd = pipe_ends[0], .events = POLLIN };
    (void)r;
    (void)connection;
    close(pipe_ends[1]); /* inherited from the test */
    close(message->fds[1]);
    return poll(&item, 1, 10000) == 1 && (item.revents & POLLHUP) ? 14 : 1;
}

static void stdout_is_pipe(void) { dup2(pipe_ends[1], 1); }

TEST(client_lets_go_of_descriptors) {
    CHECK(pipe2(pipe_ends, O_CLOEXEC) == 0);
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    call.in_child = stdout_is_pipe;
    pid_t worker = fake_worker(call.ctx.key, 0, FAKE_EXIT, 0, close_stdout);
    pid_t client = fake_call_start(&call);
    close(pipe_ends[1]);
    CHECK_NUMBER(want_exit(fake_wait_status(client)), 14);
    fake_wait_status(worker);
    close(pipe_ends[0]);
}

static int check_library(const struct wf_message *message, const struct wf_request *r,
                         int connection) {
    char byte;
    (void)connection;
    CHECK_NUMBER(r->stdio, 2); /* only what was given: 1, 9, and a directory */
    CHECK_NUMBER(message->nfds, 3);
    CHECK(r->fdnums.size == 4 && r->fdnums.data[0] == 9);
    CHECK_NUMBER(r->umask, 027);
    CHECK(write(message->fds[0], "x", 1) == 1);
    return read(told[0], &byte, 1) == 1 ? 16 : 1;
}

TEST(library) {
    struct warmfork_program program = WARMFORK_PROGRAM_INIT;
    struct warmfork_error error;
    struct warmfork_end end;
    warmfork_run *run;
    int ends[2];
    char byte;
    umask(027);
    CHECK(pipe2(ends, O_CLOEXEC) == 0 && pipe2(told, O_CLOEXEC) == 0);
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    pid_t worker = fake_worker(call.ctx.key, 0, FAKE_EXIT, 0, check_library);
    program.argv = call.argv;
    program.envp = call.envp;
    program.fds = (const int[]){ told[0], ends[1] };
    program.fd_numbers = (const int[]){ 9, 1 };
    program.nfds = 2;
    CHECK_NUMBER(warmfork_start(&program, &run, &error), WARMFORK_STARTED);
    CHECK_NUMBER(warmfork_pid(run), worker);
    CHECK(warmfork_pidfd(run) >= 0);
    CHECK(read(ends[0], &byte, 1) == 1 && byte == 'x');
    CHECK(warmfork_wait(run, 0, &end, &error) == 0 && end.kind == WARMFORK_RUNNING);
    CHECK(write(told[1], &byte, 1) == 1);
    CHECK(warmfork_wait(run, 10000, &end, &error) == 0);
    CHECK(end.kind == WARMFORK_EXITED && end.value == 16);
    warmfork_free(run);
    CHECK_NUMBER(fake_wait_status(worker), 0);
    int daemon = fake_listen("daemon.sock");
    CHECK_NUMBER(warmfork_start(&program, &run, &error), WARMFORK_COLD);
    CHECK(error.text[0] != '\0');
    program.python = "/nonexistent/python";
    CHECK_NUMBER(warmfork_start(&program, &run, &error), WARMFORK_COLD); /* as execve will tell */
    program.argv = NULL;
    CHECK_NUMBER(warmfork_start(&program, &run, &error), WARMFORK_ERROR);
    close(daemon);
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(told[i]);
    }
}

/* Stdio that is closed, also all of it: the connection must not take those numbers. */
static void no_stdio(void) {
    close(0);
    close(1);
    close(2);
}

static int check_no_stdio(const struct wf_message *message, const struct wf_request *r,
                          int connection) {
    (void)connection;
    CHECK_NUMBER(r->stdio, 0);
    CHECK_NUMBER(message->nfds, 1);
    return 18;
}

TEST(closed_stdio) {
    for (int fd = 3; fd < 256; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    fake_call_init(&call, ARGS("-c", "pass"), ARGS());
    call.in_child = no_stdio;
    pid_t worker = fake_worker(call.ctx.key, 0, FAKE_EXIT, 0, check_no_stdio);
    CHECK_NUMBER(want_exit(fake_call_run(&call)), 18);
    CHECK_NUMBER(fake_wait_status(worker), 0);
    int daemon = fake_listen("daemon.sock"); /* or a real one would be started */
    CHECK_NUMBER(want_exit(fake_call_run(&call)), FAKE_PYTHON_STATUS);
    close(daemon);
}
