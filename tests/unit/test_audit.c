/* The auditor's probes: each must find what the test makes, and say so when it cannot look. */
#include "audit/probe.h"

#include "base/io.h"
#include "base/cleanup.h"
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FOUND = 256 };

struct found {
    enum wa_kind kind;
    long id;
    char name[200], detail[200];
    uint64_t from, size;
};

static struct found found[MAX_FOUND];
static int found_count;

static void note(void *arg, const struct wa_fact *fact) {
    (void)arg;
    CHECK(found_count < MAX_FOUND && fact->name && fact->detail);
    struct found *f = &found[found_count++];
    *f = (struct found){
        .kind = fact->kind, .id = fact->id, .from = fact->from, .size = fact->size
    };
    snprintf(f->name, sizeof f->name, "%s", fact->name);
    snprintf(f->detail, sizeof f->detail, "%s", fact->detail);
}

static void probe(unsigned probes) {
    found_count = 0;
    wa_probe(probes, note, NULL);
}

/* The fact of that kind and id (-1: any), or NULL. */
static const struct found *get(enum wa_kind kind, long id) {
    for (int i = 0; i < found_count; i++)
        if (found[i].kind == kind && (id < 0 || found[i].id == id))
            return &found[i];
    return NULL;
}

static const struct found *need(enum wa_kind kind, long id) {
    const struct found *f = get(kind, id);
    if (!f)
        test_fail(__FILE__, __LINE__, "no fact of kind %d and id %ld among %d", kind, id,
                  found_count);
    return f;
}

TEST(a_plain_process_has_files_and_nothing_else) {
    probe(WA_PROBE_ALL);
    for (int i = 0; i < found_count; i++)
        if (found[i].kind != WA_FILE && found[i].kind != WA_OTHER &&
            found[i].kind != WA_FILE_LOCK && found[i].id > 2)
            test_fail(__FILE__, __LINE__, "kind %d: %s", found[i].kind, found[i].name);
    CHECK(!get(WA_TASK, -1) && !get(WA_UNSEEN, -1) && !get(WA_CHILD, -1) && !get(WA_PENDING, -1));
}

struct thread {
    pid_t tid;
    int ready[2], go[2];
};

static void *wait_in_thread(void *arg) {
    struct thread *t = arg;
    char c;
    t->tid = (pid_t)syscall(SYS_gettid);
    prctl(PR_SET_NAME, "waiter");
    CHECK(write(t->ready[1], "x", 1) == 1);
    CHECK(read(t->go[0], &c, 1) == 1);
    return NULL;
}

TEST(a_thread_is_found_with_its_name_and_library) {
    struct thread t;
    pthread_t thread;
    char c, path[64], state[256], self[200];
    CHECK(pipe2(t.ready, O_CLOEXEC) == 0 && pipe2(t.go, O_CLOEXEC) == 0);
    CHECK(pthread_create(&thread, NULL, wait_in_thread, &t) == 0);
    CHECK(read(t.ready[0], &c, 1) == 1);
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", t.tid);
    do { /* until it waits: a running thread's stack is nowhere to be read */
        sched_yield();
        CHECK(wf_read_text(AT_FDCWD, path, state, sizeof state) > 0);
    } while (strncmp(state, "running", 7) == 0 || atol(state) != SYS_read);
    probe(WA_PROBE_TASKS);
    const struct found *f = need(WA_TASK, t.tid);
    CHECK_STRING(f->name, "waiter");
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(n > 0);
    self[n] = '\0';
    CHECK_STRING(f->detail, self);
    CHECK_NUMBER(wa_task_of((uintptr_t)thread), t.tid);
    CHECK_NUMBER(wa_task_of((uintptr_t)pthread_self()), getpid());
    CHECK_NUMBER(wa_task_of(16), 0);
    CHECK(write(t.go[1], "x", 1) == 1);
    CHECK(pthread_join(thread, NULL) == 0);
    probe(WA_PROBE_TASKS);
    CHECK(!get(WA_TASK, t.tid));
    for (int i = 0; i < 2; i++) {
        close(t.ready[i]);
        close(t.go[i]);
    }
}

TEST(special_descriptors_are_told_apart) {
    WF_AUTO_FD epoll = epoll_create1(EPOLL_CLOEXEC);
    WF_AUTO_FD inotify = inotify_init1(IN_CLOEXEC);
    WF_AUTO_FD timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    WF_AUTO_FD file = open(test_dir(), O_RDONLY | O_CLOEXEC);
    probe(WA_PROBE_DESCRIPTORS);
    need(WA_EPOLL, epoll);
    need(WA_INOTIFY, inotify);
    need(WA_TIMERFD, timer);
    CHECK_STRING(need(WA_FILE, file)->name, test_dir());
    CHECK_STRING(need(WA_FILE, file)->detail, "read");
    CHECK(!get(WA_UNSEEN, -1));
}

TEST(an_io_uring_is_found) {
    uint32_t params[30] = { 0 };
    WF_AUTO_FD ring = (int)syscall(SYS_io_uring_setup, 2, params);
    if (ring < 0)
        test_skip("io_uring is not permitted");
    probe(WA_PROBE_DESCRIPTORS | WA_PROBE_TASKS);
    need(WA_IO_URING, ring);
}

TEST(sockets_are_told_with_their_peer) {
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    WF_AUTO_FD listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    WF_AUTO_FD connected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    WF_AUTO_FD udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char text[64];
    int pair[2];
    CHECK(bind(listening, (void *)&address, size) == 0 && listen(listening, 1) == 0);
    CHECK(getsockname(listening, (void *)&address, &size) == 0);
    CHECK(connect(connected, (void *)&address, size) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(address.sin_port));
    probe(WA_PROBE_DESCRIPTORS);
    CHECK_STRING(need(WA_LISTENING, listening)->detail, text);
    CHECK_STRING(need(WA_LISTENING, listening)->name, "tcp");
    CHECK_STRING(need(WA_CONNECTED, connected)->detail, text);
    CHECK_STRING(need(WA_UNCONNECTED, udp)->name, "udp");
    CHECK_STRING(need(WA_CONNECTED, pair[0])->name, "unix");
    CHECK_NUMBER(need(WA_CONNECTED, pair[0])->size, getpid());
    close(pair[0]);
    close(pair[1]);
}

TEST(the_path_of_a_unix_socket_is_told) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%.40s/s", test_dir());
    WF_AUTO_FD listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    WF_AUTO_FD connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listening, (void *)&address, sizeof address) == 0 && listen(listening, 1) == 0);
    CHECK(connect(connected, (void *)&address, sizeof address) == 0);
    probe(WA_PROBE_DESCRIPTORS);
    CHECK_STRING(need(WA_LISTENING, listening)->detail, address.sun_path);
    CHECK_STRING(need(WA_CONNECTED, connected)->detail, address.sun_path);
}

TEST(a_raw_socket_is_a_privilege) {
    WF_AUTO_FD raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    if (raw < 0)
        test_skip("needs CAP_NET_RAW");
    probe(WA_PROBE_DESCRIPTORS);
    need(WA_PRIVILEGED, raw);
}

static int find_outlived(void *arg) {
    int fd = open(arg, O_RDONLY | O_CLOEXEC);
    if (setresuid(65534, 65534, 65534) < 0 || prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L) < 0)
        return 2;
    probe(WA_PROBE_DESCRIPTORS);
    return get(WA_PRIVILEGED, fd) ? 0 : 1;
}

TEST(a_file_that_could_not_be_opened_any_more_is_a_privilege) {
    if (geteuid() != 0)
        test_skip("needs root");
    char path[100];
    snprintf(path, sizeof path, "%s/secret", test_dir());
    CHECK(mknod(path, S_IFREG | 0600, 0) == 0 && chmod(test_dir(), 0755) == 0);
    CHECK_NUMBER(test_wait(test_fork(find_outlived, path)), 0);
}

TEST(file_locks_are_found) {
    char path[100];
    snprintf(path, sizeof path, "%s/locked", test_dir());
    WF_AUTO_FD one = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    WF_AUTO_FD two = open(path, O_RDWR | O_CLOEXEC);
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    probe(WA_PROBE_DESCRIPTORS);
    CHECK(!get(WA_FILE_LOCK, one));
    CHECK(flock(one, LOCK_EX) == 0);
    probe(WA_PROBE_DESCRIPTORS);
    CHECK_STRING(need(WA_FILE_LOCK, one)->detail, "flock");
    CHECK_STRING(need(WA_FILE_LOCK, one)->name, path);
    CHECK(flock(one, LOCK_UN) == 0 && fcntl(two, F_SETLK, &whole) == 0);
    probe(WA_PROBE_DESCRIPTORS);
    CHECK_STRING(need(WA_FILE_LOCK, -1)->detail, "posix");
}

static void check_mapping(void *at, size_t size) {
    const struct wa_sink sink = { note, NULL };
    struct wf_err err;
    WF_AUTO_FD maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    found_count = 0;
    if (wa_mappings_query(&sink, maps) == 0) {
        CHECK_NUMBER(need(WA_SHARED, -1)->from, (uintptr_t)at);
        CHECK_NUMBER(found_count, 1);
    }
    found_count = 0;
    CHECK_NUMBER(wa_mappings_text(&sink, maps, &err), 0);
    CHECK_NUMBER(found_count, 1);
    CHECK_NUMBER(found[0].from, (uintptr_t)at);
    CHECK_NUMBER(found[0].size, size);
    CHECK_STRING(found[0].name, "/dev/zero (deleted)");
}

TEST(a_writable_shared_mapping_is_found_in_both_ways) {
    size_t size = 3 * 4096;
    probe(WA_PROBE_MAPPINGS);
    CHECK_NUMBER(found_count, 0);
    void *readable = mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *both = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(readable != MAP_FAILED && both != MAP_FAILED);
    check_mapping(both, size);
    munmap(readable, 4096);
    munmap(both, size);
}

TEST(waiting_and_blocked_signals_are_found) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    probe(WA_PROBE_SIGNALS);
    CHECK_NUMBER(found_count, 0);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && kill(getpid(), SIGUSR1) == 0);
    probe(WA_PROBE_SIGNALS);
    need(WA_PENDING, SIGUSR1);
    need(WA_BLOCKED, SIGUSR1);
    CHECK_NUMBER(found_count, 2);
}

TEST(timers_are_found_in_both_ways) {
    const struct wa_sink sink = { note, NULL };
    struct itimerval in_an_hour = { .it_value.tv_sec = 3600 };
    struct sigevent none = { .sigev_notify = SIGEV_NONE };
    timer_t first, second;
    alarm(0); /* the runner's time limit */
    probe(WA_PROBE_TIMERS);
    CHECK_NUMBER(found_count, 0);
    CHECK(setitimer(ITIMER_PROF, &in_an_hour, NULL) == 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &none, &first) == 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &none, &second) == 0 && timer_delete(first) == 0);
    probe(WA_PROBE_TIMERS);
    CHECK_STRING(need(WA_ITIMER, ITIMER_PROF)->name, "ITIMER_PROF");
    need(WA_POSIX_TIMER, -1);
    found_count = 0;
    CHECK_NUMBER(wa_timers_counted(&sink, NULL), 0);
    CHECK_NUMBER(found_count, 1);
    long id = found[0].id;
    found_count = 0;
    if (wa_timers_listed(&sink) == 0) {
        CHECK_NUMBER(found_count, 1);
        CHECK_NUMBER(found[0].id, id);
    }
    timer_delete(second);
}

static int wait_for_end(void *arg) {
    char c;
    int *end = arg;
    close(end[1]);
    return (int)read(end[0], &c, 1);
}

TEST(children_are_found_running_or_not) {
    int end[2];
    siginfo_t info;
    CHECK(pipe2(end, O_CLOEXEC) == 0);
    int pid = test_fork(wait_for_end, end);
    probe(WA_PROBE_CHILDREN);
    if (!get(WA_CHILD, pid))
        need(WA_CHILD, 0);
    close(end[1]);
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
    probe(WA_PROBE_CHILDREN);
    need(WA_CHILD, -1);
    CHECK_NUMBER(test_wait(pid), 0);
    probe(WA_PROBE_CHILDREN);
    CHECK_NUMBER(found_count, 0);
    close(end[0]);
}

static int probe_without_proc(void *arg) {
    if (chroot(arg) < 0)
        return 2;
    probe(WA_PROBE_ALL);
    for (unsigned p = WA_PROBE_TASKS; p <= WA_PROBE_MAPPINGS; p <<= 1) {
        const struct found *f = get(WA_UNSEEN, (long)p);
        if (!f || !strstr(f->detail, "No such file") || strcmp(f->name, wa_probe_name(p)) != 0)
            return 1;
    }
    return get(WA_UNSEEN, WA_PROBE_TIMERS) || get(WA_UNSEEN, WA_PROBE_SIGNALS) ? 1 : 0;
}

TEST(without_proc_the_probes_say_that_they_see_nothing) {
    int result = test_wait(test_fork(probe_without_proc, (void *)test_dir()));
    if (result == 2)
        test_skip("needs root");
    CHECK_NUMBER(result, 0);
}

/* Every open is refused, as a sandbox may do. */
static int probe_denied(void *arg) {
    (void)arg;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = { sizeof code / sizeof *code, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
        return 2;
    probe(WA_PROBE_ALL);
    for (unsigned p = WA_PROBE_TASKS; p <= WA_PROBE_MAPPINGS; p <<= 1) {
        const struct found *f = get(WA_UNSEEN, (long)p);
        if (!f || !strstr(f->detail, "Permission denied"))
            return 1;
    }
    return 0;
}

TEST(a_denied_look_is_said) {
    int result = test_wait(test_fork(probe_denied, NULL));
    if (result == 2)
        test_skip("seccomp is not permitted");
    CHECK_NUMBER(result, 0);
}
