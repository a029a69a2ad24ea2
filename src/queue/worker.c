#include "queue/worker.h"

#include "queue/futex.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* A task that is over sooner has used as much processor time as it took, and no memory to speak of.
 */
#define WORTH_MEASURING_NS 200000
#define WORTH_MEASURING_MEMORY_NS 1000000

static pid_t the_parent;

/* The kernel sends this when the *thread* that forked us has ended. The process is gone only if our
 * parent changed. */
static void parent_signal(int number) {
    (void)number;
    if (getppid() != the_parent)
        kill(getpid(), SIGKILL);
}

int wf_member_tie(pid_t parent, struct wf_err *err) {
    int number = SIGRTMAX - 1;
    struct sigaction act = { .sa_handler = parent_signal, .sa_flags = SA_RESTART };
    sigset_t only;
    the_parent = parent;
    sigemptyset(&only);
    sigaddset(&only, number);
    if (sigaction(number, &act, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &only, NULL) < 0)
        return wf_err_sys(err, "sigaction", "SIGRTMAX-1");
    if (prctl(PR_SET_PDEATHSIG, number) < 0)
        return wf_err_sys(err, "prctl", "PR_SET_PDEATHSIG");
    return getppid() == parent ? 0 : wf_err_msg(err, "the pool's process is gone");
}

int wf_member_init(struct wf_member *m, struct wf_shared *shared, unsigned k, int wake,
                   pid_t parent, struct wf_err *err) {
    *m = (struct wf_member){ .shared = shared, .k = k, .wake = wake };
    return wf_member_tie(parent, err);
}

static struct wf_control *control(struct wf_member *m) { return &m->shared->worker[m->k].control; }

const struct wf_entry *wf_member_claim(struct wf_member *m, const uint8_t **ret_data) {
    const struct wf_entry *entry = wf_tasks_claim(&m->shared->queue, m->k, ret_data);
    if (!entry)
        return NULL;
    struct wf_control *c = control(m);
    atomic_store_explicit(&c->started_ns, wf_now_ns(), memory_order_relaxed);
    atomic_store_explicit(&c->current, entry->task << 2, memory_order_seq_cst);
    return entry;
}

void wf_member_taken(struct wf_member *m, const struct wf_entry *entry) {
    struct wf_queue *queue = &m->shared->queue;
    wf_tasks_release(queue, entry);
    /* The parent leaves the waking to those that it believes to be quick. If we have not been,
     * another one is woken for what waits behind us. */
    if (atomic_load_explicit(&control(m)->usual_ns, memory_order_relaxed) >= WF_QUICK_NS &&
        wf_queue_sleepy(queue, m->shared->workers) && wf_tasks_ready(queue))
        wf_futex_ring(&queue->bell, 1);
}

/* Waits awake, at most for a moment. */
static bool spin(const struct wf_member *m, uint64_t begin) {
    const struct wf_queue *queue = &m->shared->queue;
    do {
        for (int i = 0; i < 16; i++) {
            if (wf_tasks_ready(queue))
                return true;
            wf_relax();
        }
    } while (wf_now_ns() - begin < WF_SPIN_WORKER_NS);
    return false;
}

static int sleep_for_task(struct wf_member *m) {
    struct wf_queue *queue = &m->shared->queue;
    int got = 0;
    uint32_t bell = atomic_load_explicit(&queue->bell, memory_order_seq_cst);
    wf_queue_sleep(queue, m->k);
    if (!wf_tasks_ready(queue)) {
        if (atomic_load_explicit(&queue->closed, memory_order_seq_cst))
            got = -1;
        else if (wf_futex_wait(&queue->bell, bell, -1) < 0 && errno == EINTR)
            got = 1;
    }
    wf_queue_awake(queue, m->k);
    return got;
}

int wf_member_sleep(struct wf_member *m) {
    if (!m->shared->spins)
        return sleep_for_task(m);
    uint64_t begin = wf_now_ns();
    if (m->hot && spin(m, begin))
        return 0;
    int got = sleep_for_task(m);
    m->hot = wf_now_ns() - begin < 2 * WF_SPIN_WORKER_NS; /* with the waking */
    return got;
}

static void measure(struct wf_member *m, struct wf_result *result, uint64_t took) {
    result->cpu_ns = took;
    result->peak_kb = 0;
    if (took < WORTH_MEASURING_NS)
        return;
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    uint64_t cpu = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    /* What was used since the last look is this task's, but for the short ones in between: those
     * ran as long as they took. */
    result->cpu_ns = cpu - m->cpu_ns < m->seen_ns ? 0 : cpu - m->cpu_ns - m->seen_ns;
    m->cpu_ns = cpu;
    m->seen_ns = 0;
    struct rusage usage;
    if (took >= WORTH_MEASURING_MEMORY_NS && getrusage(RUSAGE_SELF, &usage) == 0)
        result->peak_kb = (uint32_t)usage.ru_maxrss;
}

void wf_member_finished(struct wf_member *m, struct wf_result *result) {
    struct wf_control *c = control(m);
    uint64_t mine = result->task << 2;
    if (!atomic_compare_exchange_strong(&c->current, &mine, mine | WF_FINISHING))
        for (;;)
            pause();
    result->started_ns = atomic_load_explicit(&c->started_ns, memory_order_relaxed);
    result->ended_ns = wf_now_ns();
    uint64_t took = result->ended_ns - result->started_ns;
    measure(m, result, took);
    if (took < WORTH_MEASURING_NS)
        m->seen_ns += took;
    uint64_t usual = atomic_load_explicit(&c->usual_ns, memory_order_relaxed);
    usual = (usual * 7 + (took < UINT32_MAX ? took : UINT32_MAX)) / 8;
    atomic_store_explicit(&c->usual_ns, (uint32_t)usual, memory_order_relaxed);
}

static void wake_parent(struct wf_member *m) {
    struct wf_queue *queue = &m->shared->queue;
    if (atomic_load_explicit(&queue->parent_sleeps, memory_order_seq_cst) == WF_PARENT_AWAKE)
        return;
    uint32_t how = atomic_exchange_explicit(&queue->parent_sleeps, WF_PARENT_AWAKE,
                                            memory_order_seq_cst);
    uint64_t one = 1;
    if (how == WF_PARENT_ON_FUTEX)
        wf_futex_wake(&queue->parent_sleeps, 1);
    else if (how == WF_PARENT_ON_EVENT && write(m->wake, &one, sizeof one) != sizeof one)
        kill(getpid(), SIGKILL); /* a task has closed our descriptors. Our death wakes the parent,
                                    who has the result */
}

int wf_member_send(struct wf_member *m, const struct wf_result *result, const void *data) {
    struct wf_worker_area *area = &m->shared->worker[m->k];
    struct wf_control *c = &area->control;
    while (!wf_results_put(&area->results, result, data)) {
        uint32_t drained = atomic_load_explicit(&c->drained, memory_order_seq_cst);
        atomic_store_explicit(&c->ring_full, 1, memory_order_seq_cst);
        if (wf_results_put(&area->results, result, data))
            break;
        wake_parent(m);
        if (wf_futex_wait(&c->drained, drained, -1) < 0 && errno == EINTR)
            return 1;
    }
    if (result->task == atomic_load_explicit(&c->current, memory_order_relaxed) >> 2)
        atomic_store_explicit(&c->current, 0, memory_order_release);
    wake_parent(m);
    return 0;
}

bool wf_member_returned(struct wf_member *m, uint64_t *ret_offset) {
    struct wf_returns *r = &m->shared->worker[m->k].returns;
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&r->tail, memory_order_acquire))
        return false;
    *ret_offset = r->offset[head % WF_RETURNS];
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
    return true;
}
