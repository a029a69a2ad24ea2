/* The pool's core without an interpreter: the queue, the rings, arenas, and workers that die. */
#include "test.h"

#include "base/io.h"
#include "queue/arena.h"
#include "queue/pool.h"
#include "queue/worker.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct wf_pool *pool;
static uint8_t data[WF_QUEUE_PAYLOAD];

static void setup(unsigned workers) {
    struct wf_err err;
    pool = wf_pool_new(workers, true, &err);
    CHECK(pool);
}

/* A worker that answers with what it got; kind 1: dies, kind 2: dies having taken the task only. */
static void work(unsigned k, pid_t parent) {
    struct wf_member m;
    struct wf_err err;
    int event = pool->event;
    wf_pool_forget(pool, k);
    if (wf_member_init(&m, pool->shared, k, event, parent, &err) < 0)
        _exit(3);
    pool->shared->worker[k].control.phase = WF_PHASE_READY;
    for (;;) {
        const uint8_t *bytes;
        const struct wf_entry *e = wf_member_claim(&m, &bytes);
        if (!e && wf_member_sleep(&m) < 0)
            _exit(0);
        if (!e)
            continue;
        if (e->kind == 2)
            kill(getpid(), SIGKILL);
        struct wf_result result = { .task = e->task, .kind = e->kind, .size = e->size };
        memcpy(data, bytes, e->size);
        wf_member_taken(&m, e);
        if (result.kind == 1)
            kill(getpid(), SIGKILL);
        wf_member_finished(&m, &result);
        wf_member_send(&m, &result, data);
    }
}

static void start_worker(void) {
    struct wf_err err;
    pid_t parent = getpid();
    int k = wf_pool_prepare(pool, &err);
    CHECK(k >= 0);
    pid_t pid = fork();
    if (pid == 0)
        work((unsigned)k, parent);
    CHECK(wf_pool_adopt(pool, (unsigned)k, pid, &err) == 0);
}

static bool push(uint64_t task, uint32_t kind, const void *bytes, size_t size) {
    return wf_pool_push(pool, task, kind, bytes, size / 2, (const char *)bytes + size / 2,
                        size - size / 2);
}

static struct wf_result next_result(void) {
    struct wf_result result;
    for (;;) {
        for (unsigned k = 0; k < pool->max_workers; k++)
            if (wf_pool_take(pool, k, &result, data))
                return result;
        wf_pool_sleep_event(pool, wf_pool_arm_event(pool) ? -1 : 0);
    }
}

static struct wf_death next_death(void) {
    struct wf_death death;
    while (!wf_pool_reap(pool, &death))
        wf_pool_sleep_event(pool, wf_pool_arm_event(pool) ? -1 : 0);
    return death;
}

TEST(tasks_come_back) {
    uint8_t bytes[300];
    setup(3);
    for (int i = 0; i < 3; i++)
        start_worker();
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    uint64_t sent = 0, got = 0, sum = 0;
    while (got < 20000) {
        while (sent < 20000 && push(sent + 1, 0, bytes, sent % sizeof bytes))
            sent++;
        struct wf_result result = next_result();
        CHECK_NUMBER(result.size, (result.task - 1) % sizeof bytes);
        CHECK(memcmp(data, bytes, result.size) == 0);
        CHECK(result.ended_ns >= result.started_ns);
        sum += result.task;
        got++;
    }
    CHECK_NUMBER(sum, 20000ull * 20001 / 2);
    wf_pool_close(pool, false);
    for (int i = 0; i < 3; i++)
        CHECK_NUMBER(next_death().status, 0);
    wf_pool_free(pool);
}

TEST(largest_payload_fits_and_the_queue_fills) {
    setup(1);
    uint64_t n = 0;
    memset(data, 7, sizeof data);
    while (push(n + 1, 0, data, sizeof data))
        n++;
    CHECK_NUMBER(n, WF_QUEUE_BYTES / WF_QUEUE_PAYLOAD);
    start_worker();
    for (uint64_t i = 0; i < n; i++) {
        struct wf_result result = next_result();
        CHECK_NUMBER(result.task, i + 1);
        CHECK_NUMBER(result.size, sizeof data);
        CHECK(data[0] == 7 && data[sizeof data - 1] == 7);
    }
    while (push(n + 1, 0, NULL, 0))
        n++;
    wf_pool_free(pool);
}

TEST(death_names_its_task_and_no_other) {
    setup(1);
    start_worker();
    CHECK(push(11, 1, "x", 1) && push(12, 0, "y", 1));
    struct wf_death death = next_death();
    CHECK_NUMBER(death.task, 11);
    CHECK(WIFSIGNALED(death.status) && WTERMSIG(death.status) == SIGKILL && death.ready &&
          !death.leaving);
    CHECK(push(13, 2, "z", 1));
    start_worker();
    CHECK_NUMBER(next_result().task, 12);
    CHECK_NUMBER(next_death().task, 13);
    CHECK(push(14, 0, "w", 1));
    start_worker();
    CHECK_NUMBER(next_result().task, 14);
    wf_pool_free(pool);
}

TEST(revoked_tasks_are_not_run) {
    setup(1);
    for (uint64_t i = 1; i <= 5; i++)
        CHECK(push(i, 0, NULL, 0));
    CHECK(wf_tasks_revoke(&pool->tasks, 1) && wf_tasks_revoke(&pool->tasks, 4));
    CHECK(!wf_tasks_revoke(&pool->tasks, 4) && !wf_tasks_revoke(&pool->tasks, 6));
    start_worker();
    CHECK_NUMBER(next_result().task, 2);
    CHECK_NUMBER(next_result().task, 3);
    CHECK_NUMBER(next_result().task, 5);
    wf_pool_free(pool);
}

TEST(a_task_that_has_ended_cannot_be_doomed) {
    uint64_t started;
    setup(1);
    start_worker();
    CHECK(push(1, 0, NULL, 0));
    CHECK_NUMBER(next_result().task, 1);
    CHECK(!wf_pool_doom(pool, 1) && wf_pool_runs(pool, 1, &started) < 0);
    CHECK(push(2, 0, NULL, 0));
    CHECK_NUMBER(next_result().task, 2);
    wf_pool_free(pool);
}

TEST(a_ring_of_nonsense_kills_its_worker) {
    setup(1);
    start_worker();
    struct wf_worker_area *area = &pool->shared->worker[0];
    struct wf_result result;
    area->results.tail = WF_RESULTS_BYTES * 3;
    CHECK_NUMBER(wf_pool_take(pool, 0, &result, data), 0);
    struct wf_death death = next_death();
    CHECK(WIFSIGNALED(death.status) && WTERMSIG(death.status) == SIGKILL);
    wf_pool_free(pool);
}

TEST(full_ring_of_results_waits_for_the_parent) {
    setup(1);
    start_worker();
    memset(data, 1, sizeof data);
    for (uint64_t i = 1; i <= 12; i++)
        CHECK(push(i, 0, data, sizeof data));
    while (!atomic_load(&pool->shared->worker[0].control.ring_full))
        usleep(1000); /* no event tells another process that this one has fallen asleep */
    for (uint64_t i = 1; i <= 12; i++)
        CHECK_NUMBER(next_result().task, i);
    wf_pool_free(pool);
}

TEST(workers_die_with_their_parent) {
    int pids[2];
    CHECK(pipe(pids) == 0);
    pid_t parent = fork();
    if (parent == 0) {
        setup(1);
        start_worker();
        CHECK(write(pids[1], &pool->worker[0].pid, sizeof(pid_t)) == sizeof(pid_t));
        raise(SIGKILL);
    }
    pid_t worker;
    close(pids[1]);
    CHECK(wf_read_full(pids[0], &worker, sizeof worker) == sizeof worker);
    CHECK_NUMBER(test_wait(parent), 128 + SIGKILL);
    CHECK(wf_read_full(pids[0], &worker, 1) ==
          0); /* end of file: the worker's copy of the pipe is closed too */
    close(pids[0]);
}

TEST(arena_reserve_and_fill) {
    struct wf_err err;
    struct wf_arena arena;
    uint64_t a, b;
    wf_arena_init(&arena, wf_arena_create(&err));
    CHECK(wf_arena_reserve(&arena, 100000, &a, &err) == 0);
    CHECK(wf_arena_reserve(&arena, 0, &b, &err) == 0); /* the account may change in between */
    CHECK(wf_arena_fill(arena.fd, a, 99998, "yz", 2, &err) == 0);
    CHECK(wf_arena_fill(arena.fd, a, 0, "ab", 2, &err) == 0);
    char *mapped = wf_arena_map(arena.fd, a, 100000, &err);
    CHECK(mapped && memcmp(mapped, "ab", 3) == 0 && memcmp(mapped + 99998, "yz", 2) == 0);
    wf_arena_unmap(mapped, 100000);
    CHECK(wf_arena_reserve(&arena, (size_t)1 << 50, &b, &err) < 0);
    CHECK(wf_arena_fill(-1, a, 0, "a", 1, &err) < 0);
    wf_close(&arena.fd);
    wf_arena_done(&arena);
}

TEST(arena_ranges) {
    struct wf_err err;
    struct wf_arena arena;
    uint64_t a, b, c;
    char *text = calloc(1, 200000);
    CHECK(text);
    memset(text, 'a', 200000);
    wf_arena_init(&arena, wf_arena_create(&err));
    CHECK(wf_arena_write(&arena, text, 200000, &a, &err) == 0);
    CHECK(wf_arena_write(&arena, "b", 1, &b, &err) == 0);
    char *mapped = wf_arena_map(arena.fd, a, 200000, &err);
    CHECK(mapped && memcmp(mapped, text, 200000) == 0);
    wf_arena_unmap(mapped, 200000);
    uint64_t end = arena.end;
    wf_arena_free(&arena, a);
    CHECK(wf_arena_write(&arena, "c", 1, &c, &err) == 0);
    CHECK_NUMBER(arena.end, end);
    CHECK(a != c); /* the same place, another stamp */
    wf_arena_free(&arena, a);
    wf_arena_hold(&arena, a, 5);
    wf_arena_free_held(&arena, 5);
    mapped = wf_arena_map(arena.fd, c, 1, &err);
    CHECK(mapped && *mapped == 'c');
    wf_arena_unmap(mapped, 1);
    CHECK(wf_arena_map(arena.fd, arena.end, 1, &err) == NULL);
    CHECK(wf_arena_map(arena.fd, 0, arena.end + 1, &err) == NULL);
    wf_arena_hold(&arena, b, 5);
    wf_arena_free_held(&arena, 5);
    wf_arena_free(&arena, c);
    CHECK_NUMBER(arena.count, 1);
    wf_close(&arena.fd);
    wf_arena_done(&arena);
    free(text);
}
