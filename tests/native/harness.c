/* Threads against the core's headers, without Python; every test ends in a conservation check.
 *
 *     harness TEST SECONDS SEED [PATIENCE]
 *
 * Exit status 0: the books balance, 1: they do not, 4: no thread made a step for PATIENCE seconds.
 *
 * What a thread holds it marks with a plain word, so that two holders see each other, and so that
 * ThreadSanitizer sees a hand-over that orders nothing.  With FASTPOOL_DEBUG a thread yields at
 * random before its atomic steps, and the headers check themselves.
 */
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <Python.h> /* the stand-in */

#ifdef FASTPOOL_DEBUG
static inline void perturb(void) {
    if (dice(32) == 0) sched_yield();
}
#define FP_STEP() perturb()
#endif

static unsigned numbers_used = 4096; /* of threads */
#define FP_THREADS_USED numbers_used

#include "core/cpython.h"

enum { THREADS = 6 };

static const char *title;
static uint64_t seed;
static int64_t deadline;
static int patience = 5; /* seconds without a step of any thread: stuck */

static void fail(const char *text, ...) {
    char line[400];
    va_list arguments;
    va_start(arguments, text);
    vsnprintf(line, sizeof line, text, arguments);
    va_end(arguments);
    printf("FAIL %s: %s (seed %llu)\n", title, line, (unsigned long long)seed);
    fflush(stdout);
    _exit(1);
}

#define CHECK(truth) ((truth) ? (void)0 : fail("%s, line %d", #truth, __LINE__))
#define EQUAL(a, b) equal(#a, (long long)(a), #b, (long long)(b), __LINE__)

static void equal(const char *a, long long is, const char *b, long long must, int line) {
    if (is != must) fail("%s is %lld, not %s (%lld), line %d", a, is, b, must, line);
}

/* ---- Threads that are watched ---- */

typedef struct worker {
    _Alignas(FP_CACHE_LINE) _Atomic(uint64_t) steps; /* written by the thread, read by the watch */
    void (*act)(struct worker *);
    pthread_t thread;
    uint64_t got, missed, late, refused, failed; /* the thread's own, read after it has ended */
    int number;                                  /* from 1 */
} worker;

static worker workers[16];
static uint64_t born; /* threads so far: each has dice of its own */

static void stepped(worker *me) {
    atomic_fetch_add_explicit(&me->steps, 1, memory_order_relaxed);
}

static int time_is_up(void) { return fp_clock_coarse() >= deadline; }

static void *run_worker(void *argument) {
    worker *me = (worker *)argument;
    dice_state = me->got; /* a seed of its own, given by start() */
    me->got = 0;
    me->act(me);
    return NULL;
}

static void start(int first, int count, void (*act)(worker *)) {
    for (int i = first; i < first + count; i++) {
        workers[i].missed = workers[i].late = workers[i].refused = workers[i].failed = 0;
        workers[i].number = i + 1;
        workers[i].act = act;
        workers[i].got = (seed + ++born) * UINT64_C(0x9E3779B97F4A7C15);
        CHECK(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0);
    }
}

static void finish(int first, int count) {
    for (int i = first; i < first + count; i++) pthread_join(workers[i].thread, NULL);
}

static void runner(int count, void (*act)(worker *)) {
    start(0, count, act);
    finish(0, count);
}

static uint64_t sum_of(size_t field) {
    uint64_t sum = 0;
    for (int i = 0; i < 16; i++) sum += *(uint64_t *)((char *)&workers[i] + field);
    return sum;
}
#define SUM(field) sum_of(offsetof(worker, field))

static fp_core *core;

static void *watch(void *nothing) {
    uint64_t before = 0;
    for (int quiet = 0; quiet < patience * 10; quiet++) {
        usleep(100000);
        uint64_t now = 0;
        for (int i = 0; i < 16; i++) now += atomic_load(&workers[i].steps);
        if (now != before) quiet = 0;
        before = now;
    }
    printf("STUCK %s after %llu steps (seed %llu)\n", title, (unsigned long long)before,
           (unsigned long long)seed);
    fflush(stdout);
    _exit(4);
    return nothing;
}

/* ---- What is lent: two holders at once see each other ---- */

typedef struct {
    _Alignas(FP_CACHE_LINE) long holder; /* plain on purpose */
    uint64_t uses;
    int closed;
} resource;

static resource resources[64];

static void hold(worker *me, resource *r) {
    if (r->holder != 0) fail("held by %ld and by %d", r->holder, me->number);
    CHECK(!r->closed);
    r->holder = me->number;
    r->uses++;
    me->got++;
    if (dice(8) == 0) sched_yield();
    if (r->holder != me->number) fail("%ld took over from %d", r->holder, me->number);
    r->holder = 0;
    stepped(me);
}

static uint64_t uses_of_all(void) {
    uint64_t sum = 0;
    for (int i = 0; i < 64; i++) sum += resources[i].uses;
    return sum;
}

static void forget_all(void) { memset(resources, 0, sizeof resources); }

/* ---- The lock-free ring alone ---- */

static fp_ring ring;

static void pop_and_push(worker *me) {
    while (!time_is_up()) {
        int64_t index = fp_ring_pop(&ring);
        if (index < 0) {
            me->missed++;
            stepped(me);
            continue;
        }
        hold(me, &resources[index]);
        fp_ring_push(&ring, (uint32_t)index);
    }
}

static void ring_of(uint32_t entries, int threads, int exact) {
    static fp_cell cells[8];
    CHECK(entries <= 8);
    forget_all();
    fp_ring_init(&ring, cells, entries <= 4 ? 4 : 8);
    for (uint32_t i = 0; i < entries; i++) fp_ring_push(&ring, i);
    runner(threads, pop_and_push);
    EQUAL(uses_of_all(), SUM(got));
    unsigned seen = 0;
    for (uint32_t i = 0; i < entries; i++) {
        int64_t index = fp_ring_pop(&ring);
        CHECK(index >= 0 && !(seen & 1u << index));
        seen |= 1u << index;
    }
    EQUAL(fp_ring_pop(&ring), -1);
    if (exact) EQUAL(SUM(missed), 0);
}

/* Fewer entries than threads, and a full ring: each entry is with one thread or in the ring. */
static void test_ring(void) { ring_of(2, THREADS, 0); }

/* As many entries as threads: a pop never finds the ring empty. */
static void test_ring_exact(void) { ring_of(4, 4, 1); }

/* ---- The slot table: words, hints and ring together ---- */

static int limit_of_test = 2, lifo = 1, fair = 0;

static fp_slot *reserve(void) {
    fp_lock_take(&core->lock);
    fp_slot *slot = NULL;
    if (core->open < core->limit && !(fp_gate(core) & FP_CLOSED)) {
        slot = fp_slots_reserve(&core->slots);
        core->open++;
        core->creating++;
    }
    fp_check(core);
    fp_lock_drop(&core->lock);
    return slot;
}

static int publish(fp_slot *slot, unsigned from) {
    fp_slot_own(slot, 0);
    if (!fp_pool_publish(core, slot, from, fp_slot_word(slot))) return 0;
    fp_dispatch_locked(core);
    return !(fp_gate(core) & FP_CLOSED && fp_slot_move(slot, FP_IDLE, FP_CHECKING));
}

static void fill(fp_slot *slot, resource *r) {
    fp_lock_take(&core->lock);
    CHECK(fp_slots_find(&core->slots, r) == NULL);
    CHECK(fp_slots_note(&core->slots, slot, r) == 0);
    fp_slot_fill(core, slot, FP_NEVER);
    core->creating--;
    CHECK(fp_slot_move(slot, FP_CREATING, FP_CHECKING));
    fp_check(core);
    fp_lock_drop(&core->lock);
}

static void release_slot(fp_slot *slot) { /* CREATING or CLOSING -> FREE */
    fp_lock_take(&core->lock);
    core->creating -= fp_slot_state(slot) == FP_CREATING;
    fp_slots_forget(&core->slots, slot);
    fp_slots_release(&core->slots, slot);
    core->open--;
    fp_check(core);
    fp_lock_drop(&core->lock);
}

static void close_slot(fp_slot *slot, unsigned from) {
    if (!fp_slot_move(slot, from, FP_CLOSING)) fail("a slot in state %u", fp_slot_state(slot));
    resource *r = (resource *)fp_load_item(slot);
    CHECK(r->holder == 0 && !r->closed); /* plain: whoever closes it has it to itself */
    r->closed = 1;
    release_slot(slot);
}

static void pool_of(int open) {
    core = fp_core_new();
    core->use = FP_POOL;
    core->lifo = lifo;
    core->fair = fair;
    core->limit = (size_t)limit_of_test;
    fp_spin_ns = dice(2) ? 5000 : 0;
    forget_all();
    for (int i = 0; i < open; i++) {
        fp_slot *slot = reserve();
        fill(slot, &resources[i]);
        CHECK(publish(slot, FP_CHECKING));
    }
}

/* Takes all that is idle, the ordinary way; each slot must turn up once. */
static int drained(void) {
    int n = 0;
    while (fp_idle_take(&core->slots, 0) != NULL) n++;
    return n;
}

static void check_pool(int expected) {
    EQUAL(uses_of_all(), SUM(got));
    EQUAL(core->open, (size_t)expected);
    EQUAL(core->getters.count, 0u);
    EQUAL(core->failures.count, 0u);
    EQUAL(core->arriving, 0u);
    EQUAL(core->creating, 0u);
    EQUAL(fp_gate(core) & FP_WAITER_BITS, 0u);
    EQUAL(drained(), expected);
    fp_core_empty(core);
    fp_core_retire(core);
}

static void give_back(fp_slot *slot) {
    int notify = 0;
    if (fp_pool_return(core, slot, 0, &notify) != 1) close_slot(slot, FP_LEASED);
    if (notify) /* the pool was closed meanwhile; its sweep may have missed this one */
        FP_EACH_SLOT(core, idle)
        if (fp_slot_move(idle, FP_IDLE, FP_CHECKING)) close_slot(idle, FP_CHECKING);
}

static void take_and_return(worker *me) {
    while (!time_is_up()) {
        fp_slot *due, *slot = fp_pool_hit(core, &due);
        if (slot == NULL) {
            me->missed++;
            stepped(me);
            continue;
        }
        uint64_t generation = fp_slot_generation(slot);
        hold(me, (resource *)fp_load_item(slot));
        give_back(slot);
        int notify; /* the lease is over: its generation opens nothing any more */
        if (dice(8) == 0) EQUAL(fp_pool_return(core, slot, generation, &notify), -1);
    }
}

static void slots_of(int open, int threads, int hints, int exact) {
    lifo = hints;
    limit_of_test = open;
    pool_of(open);
    runner(threads, take_and_return);
    if (exact) EQUAL(SUM(missed), 0);
    check_pool(open);
}

/* Hints and ring entries race for few slots; late returns are refused. */
static void test_slots(void) { slots_of(2, THREADS, 1, 0); }

/* More slots than one segment holds. */
static void test_slots_many(void) { slots_of(40, THREADS, 1, 0); }

/* As many slots as threads and no hints: a try never comes back empty-handed.  (With hints it may,
 * while another thread is popping the entry of a slot that a hint then takes.) */
static void test_slots_exact(void) { slots_of(4, 4, 0, 1); }

/* ---- The line of a pool ---- */

static int may_wait_for_ever; /* 0: never, 1: every other time, 2: always */
static int may_be_interrupted;

static int64_t some_span(void) {
    static const int64_t spans[] = {FP_NEVER, 20000, 200000, 2000000};
    return spans[may_wait_for_ever > (int)dice(2) ? 0 : 1 + dice(3)];
}

/* One blocking lease, from the gate to the return. */
static void wait_and_return(worker *me) {
    fp_slot *due, *slot = fp_pool_hit(core, &due);
    if (slot == NULL) {
        void *error = NULL;
        int interrupted;
        storm = may_be_interrupted;
        uint64_t granted = 0;
        int state =
            fp_pool_wait(core, fp_thread_token(), some_span(), 0, 0, &slot, &granted, &error, &interrupted);
        storm = 0;
        stepped(me);
        CHECK(slot == NULL || fp_slot_lent(core, slot, granted));
        if (slot == NULL) {
            me->late += state == FP_WAITING;
            me->refused += state == FP_REFUSED;
            CHECK(state == FP_WAITING || state == FP_REFUSED);
            return;
        }
        EQUAL(state, FP_GRANTED);
        if (interrupted) { /* not used; on to the next in the queue */
            give_back(slot);
            return;
        }
        fp_pool_begin(core, slot);
    }
    hold(me, (resource *)fp_load_item(slot));
    give_back(slot);
}

static void wait_a_while(worker *me) {
    for (int i = 0; i < 300 && me->refused == 0; i++) wait_and_return(me);
}

/* Short rounds: who is forgotten in the queue is still there when the others have gone home. */
static void wait_queue_of(int open, int threads, int for_ever, int interrupted) {
    may_wait_for_ever = for_ever;
    may_be_interrupted = interrupted;
    limit_of_test = open;
    while (!time_is_up()) {
        pool_of(open);
        runner(threads, wait_a_while);
        check_pool(open);
    }
}

static void test_waiters_throughput(void) { fair = 0, wait_queue_of(2, THREADS, 1, 0); }
static void test_waiters_fair(void) { fair = 1, wait_queue_of(2, THREADS, 1, 0); }
static void test_waiters_signals(void) { fair = (int)dice(2), wait_queue_of(1, THREADS, 1, 1); }

static pthread_barrier_t all_done;

static void duel(worker *me) {
    for (int over = 0; !over;) {
        for (unsigned i = dice(3); i > 0; i--) wait_and_return(me);
        pthread_barrier_wait(&all_done);
        if (me->number == 1) me->late = (uint64_t)time_is_up();
        pthread_barrier_wait(&all_done);
        over = (int)workers[0].late;
        pthread_barrier_wait(&all_done);
    }
}

/* One slot, and everybody waits for ever: a wake-up that is lost once is lost for good, since all
 * others have gone to the barrier before they could make up for it. */
static void test_waiters_duel(void) {
    may_wait_for_ever = 2;
    fair = (int)dice(2);
    limit_of_test = 1;
    pool_of(1);
    pthread_barrier_init(&all_done, NULL, 3);
    runner(3, duel);
    check_pool(1);
}

/* As many slots as threads: nobody ever waits for long, whatever the table looks like. */
static void test_waiters_exact(void) {
    fair = 0;
    limit_of_test = 20;
    may_wait_for_ever = 1;
    while (!time_is_up()) {
        pool_of(4);
        core->limit = 4;
        runner(4, wait_a_while);
        check_pool(4);
    }
}

/* ---- Closing under load ---- */

static void wait_until_closed(worker *me) {
    while (me->refused == 0) wait_and_return(me);
}

static void test_close(void) {
    may_wait_for_ever = 1;
    while (!time_is_up()) {
        fair = (int)dice(2);
        limit_of_test = 3;
        pool_of(3);
        start(0, 4, wait_until_closed);
        for (unsigned i = dice(200); i > 0; i--) sched_yield();
        fp_lock_take(&core->lock);
        fp_gate_set(core, FP_CLOSED);
        fp_refuse_all(&core->getters);
        fp_gate_refresh(core);
        fp_lock_drop(&core->lock);
        FP_EACH_SLOT(core, slot)
        if (fp_slot_move(slot, FP_IDLE, FP_CHECKING)) close_slot(slot, FP_CHECKING);
        finish(0, 4);
        for (int i = 0; i < 3; i++) CHECK(resources[i].closed);
        check_pool(0);
    }
}

/* ---- Creation on demand: the manager in miniature, in the order of steps of pool/_creation.py ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    fp_slot *queue[64];
    int queued, tries, over;
    char open[64]; /* by resource */
} manager = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

static PyObject failure; /* of every creation that fails; its references are counted */

static size_t demand(void) {
    fp_lock_take(&core->lock);
    size_t n = fp_demand(core);
    fp_lock_drop(&core->lock);
    return n;
}

static void start_tries(void) {
    pthread_mutex_lock(&manager.lock);
    fp_slot *slot;
    for (int wanted = (int)demand() - manager.tries; wanted > 0; wanted--) {
        if ((slot = reserve()) == NULL) break;
        manager.tries++;
        manager.queue[manager.queued++] = slot;
        /* to all: glibc before 2.41 may lose a signal when several wait (its bug 25847) */
        pthread_cond_broadcast(&manager.work);
    }
    pthread_mutex_unlock(&manager.lock);
}

static void come(int callers) {
    fp_lock_take(&core->lock);
    core->arriving += (size_t)callers;
    fp_waiter *spare = fp_spare_failure(core);
    CHECK(core->failures.count <= core->arriving);
    fp_lock_drop(&core->lock);
    if (spare != NULL) {
        Py_DECREF((PyObject *)spare->grant);
        fp_waiter_free(spare);
    }
}

static void tell_failure(uint64_t ticket) {
    fp_waiter *note = fp_waiter_new();
    Py_INCREF(&failure);
    fp_lock_take(&core->lock);
    int notify = fp_fail(core, ticket, &failure, note);
    fp_lock_drop(&core->lock);
    if (notify != 2) fp_waiter_free(note);
    if (notify == 0) Py_DECREF(&failure);
}

static resource *make(void) { /* under the manager's lock */
    int i = 0;
    while (manager.open[i]) i++; /* the cap is far below the size of the table */
    manager.open[i] = 1;
    resources[i].closed = 0;
    return &resources[i];
}

static void create(worker *me) {
    for (;;) {
        pthread_mutex_lock(&manager.lock);
        while (manager.queued == 0 && !manager.over)
            pthread_cond_wait(&manager.work, &manager.lock);
        if (manager.queued == 0) {
            pthread_mutex_unlock(&manager.lock);
            return;
        }
        fp_slot *slot = manager.queue[--manager.queued];
        if ((size_t)manager.tries > demand()) { /* nobody wants it any more */
            manager.tries--;
            release_slot(slot);
            pthread_mutex_unlock(&manager.lock);
            stepped(me);
            continue;
        }
        fp_lock_take(&core->lock);
        uint64_t ticket = fp_assign(core);
        fp_lock_drop(&core->lock);
        resource *made = dice(4) ? make() : NULL; /* one creation in four fails */
        pthread_mutex_unlock(&manager.lock);
        for (unsigned i = dice(4); i > 0; i--) sched_yield();
        if (made != NULL) {
            fill(slot, made);
            CHECK(publish(slot, FP_CHECKING));
        } else {
            release_slot(slot);
            tell_failure(ticket);
            me->failed++;
        }
        pthread_mutex_lock(&manager.lock);
        manager.tries--;
        pthread_mutex_unlock(&manager.lock);
        stepped(me);
        start_tries();
    }
}

static void lease_or_create(worker *me) {
    for (int i = 0; i < 100; i++) {
        fp_slot *due, *slot = fp_pool_hit(core, &due);
        int64_t span = some_span();
        for (int asked = 0, in_front = 0; slot == NULL;) {
            void *error = NULL;
            int interrupted;
            uint64_t granted = 0;
            int state = fp_pool_wait(core, fp_thread_token(), span, asked, in_front, &slot, &granted, &error,
                                     &interrupted);
            stepped(me);
            asked = 0;
            in_front = state == FP_MAY_OPEN_AT_HEAD; /* it keeps its position in the queue */
            if (state == FP_MAY_OPEN || in_front) {
                come(1);
                start_tries();
                asked = 1;
                if (dice(8) == 0) { /* its time was over on the way */
                    for (unsigned k = dice(50); k > 0; k--) sched_yield();
                    come(-1);
                    break;
                }
            } else if (state == FP_FAILED) {
                CHECK(error == &failure);
                Py_DECREF(&failure);
                break;
            } else if (state == FP_WAITING) {
                break;
            } else {
                EQUAL(state, FP_GRANTED);
            }
        }
        if (slot == NULL) continue;
        hold(me, (resource *)fp_load_item(slot));
        if (dice(3) == 0) {
            pthread_mutex_lock(&manager.lock);
            manager.open[(resource *)fp_load_item(slot) - resources] = 0;
            close_slot(slot, FP_LEASED);
            pthread_mutex_unlock(&manager.lock);
            start_tries();
        } else {
            give_back(slot);
        }
    }
}

static void test_creation(void) {
    may_wait_for_ever = 1;
    while (!time_is_up()) {
        fair = (int)dice(2);
        limit_of_test = 1 + (int)dice(3);
        pool_of(0);
        manager.over = 0;
        start(8, 2, create);
        runner(4, lease_or_create);
        pthread_mutex_lock(&manager.lock);
        manager.over = 1;
        pthread_cond_broadcast(&manager.work);
        pthread_mutex_unlock(&manager.lock);
        finish(8, 2);
        come(0); /* a failure that nobody was left to see */
        EQUAL(manager.tries, 0);
        EQUAL(atomic_load(&failure.references), 0);
        int open = 0;
        for (int i = 0; i < 64; i++) open += manager.open[i];
        check_pool(open);
        memset(manager.open, 0, sizeof manager.open);
    }
}

#include "sharing.h"
#include "caching.h"
#include "semaphore.h"

/* ---- Queue use ---- */

enum { PUTTERS = 3, GETTERS = 3, ITEMS = 300 };
typedef struct {
    int producer, number;
    int taken; /* plain: by one getter, once */
} item;
static item items[PUTTERS][ITEMS];
static int sent[PUTTERS];
static int trickle; /* putters take their time, so that getters wait for them */

static int queue_has_put(item *x) {
    int state = fp_queue_put(core, x), interrupted = 0;
    if (state == FP_DONE) return 1;
    CHECK(state == FP_NOT_NOW);
    storm = may_be_interrupted;
    state = fp_queue_put_slow(core, x, some_span(), &interrupted);
    storm = 0;
    CHECK(state == FP_GRANTED || state == FP_WAITING || state == FP_REFUSED);
    return state == FP_GRANTED ? 1 : state == FP_REFUSED ? -1 : 0;
}

static void put_all(worker *me) {
    int p = me->number - 1;
    for (int i = 0; i < ITEMS;) {
        int done = queue_has_put(&items[p][i]);
        stepped(me);
        if (done < 0) return;
        i += done;
        sent[p] = i;
        for (unsigned k = trickle ? dice(20) : 0; k > 0; k--) sched_yield();
    }
}

static void get_all(worker *me) {
    int latest[PUTTERS];
    for (int p = 0; p < PUTTERS; p++) latest[p] = -1;
    for (;;) {
        void *got = fp_queue_get(core, core->lifo);
        if (got == NULL) {
            int interrupted;
            storm = may_be_interrupted;
            int state = fp_queue_get_slow(core, some_span(), &got, &interrupted);
            storm = 0;
            stepped(me);
            if (state == FP_REFUSED) return;
            if (interrupted && state == FP_GRANTED && !fp_queue_put_back(core, got)) {
                CHECK(fp_gate(core) & FP_SHUT); /* at once, so it is dropped with what was there */
                ((item *)got)->taken++;
                me->got++;
                CHECK(fp_queue_finish(core) != 0);
            }
            if (state == FP_WAITING || interrupted) continue;
            EQUAL(state, FP_GRANTED);
        }
        item *x = (item *)got;
        if (x->taken++) fail("item %d of %d came twice", x->number, x->producer);
        if (!core->lifo && !may_be_interrupted && x->number <= latest[x->producer])
            fail("%d came after %d of %d", x->number, latest[x->producer], x->producer);
        latest[x->producer] = x->number;
        me->got++;
        CHECK(fp_queue_finish(core) != 0);
        stepped(me);
    }
}

static void join_queue(worker *me) {
    int interrupted;
    EQUAL(fp_queue_join(core, &interrupted), FP_GRANTED);
    stepped(me);
}

static size_t unfinished(void) {
    fp_lock_take(&core->lock);
    size_t n = core->unfinished;
    fp_lock_drop(&core->lock);
    return n;
}

static void queue_of(int in_lifo, int interrupted) {
    may_be_interrupted = interrupted;
    while (!time_is_up()) {
        may_wait_for_ever = 1 + (int)dice(2);
        trickle = (int)dice(2);
        core = fp_core_new();
        core->use = FP_QUEUE;
        core->lifo = in_lifo;
        core->fair = (int)dice(2);
        core->limit = dice(4) ? 3 : SIZE_MAX;
        fp_spin_ns = dice(2) ? 5000 : 0;
        memset(items, 0, sizeof items);
        memset(sent, 0, sizeof sent);
        for (int p = 0; p < PUTTERS; p++)
            for (int i = 0; i < ITEMS; i++) items[p][i].producer = p, items[p][i].number = i;
        start(0, PUTTERS, put_all);
        start(PUTTERS, GETTERS, get_all);
        start(PUTTERS + GETTERS, 1, join_queue);
        int at_once = dice(3) == 0;
        fp_deque dropped = {0};
        size_t n = 0;
        if (at_once) {
            for (unsigned i = dice(300); i > 0; i--) sched_yield();
        } else {
            finish(0, PUTTERS);
            while (unfinished() != 0) sched_yield(); /* getters need nobody to tell them */
        }
        n = fp_queue_shut(core, at_once, &dropped);
        if (at_once) finish(0, PUTTERS);
        finish(PUTTERS, GETTERS + 1);
        for (size_t i = 0; i < n; i++) ((item *)fp_deque_pop_head(&dropped))->taken++;
        free(dropped.cells);
        uint64_t total = 0;
        for (int p = 0; p < PUTTERS; p++) {
            total += (uint64_t)sent[p];
            for (int i = 0; i < sent[p]; i++) EQUAL(items[p][i].taken, 1);
            for (int i = sent[p]; i < ITEMS; i++) EQUAL(items[p][i].taken, 0);
        }
        EQUAL(total, SUM(got) + n);
        EQUAL(core->items.count, 0u);
        EQUAL(core->unfinished, 0u);
        EQUAL(core->getters.count + core->putters.count + core->joiners.count, 0u);
        fp_core_retire(core);
    }
}

static void test_queue_fifo(void) { queue_of(0, 0); }
static void test_queue_lifo(void) { queue_of(1, 0); }
static void test_queue_signals(void) { queue_of(0, 1); }

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"ring", test_ring},
    {"ring-exact", test_ring_exact},
    {"slots", test_slots},
    {"slots-many", test_slots_many},
    {"slots-exact", test_slots_exact},
    {"waiters-throughput", test_waiters_throughput},
    {"waiters-fair", test_waiters_fair},
    {"waiters-duel", test_waiters_duel},
    {"waiters-exact", test_waiters_exact},
    {"waiters-signals", test_waiters_signals},
    {"close", test_close},
    {"creation", test_creation},
    {"shared", test_shared},
    {"shared-exact", test_shared_exact},
    {"shared-queue", test_shared_queue},
    {"shared-signals", test_shared_signals},
    {"shared-duel", test_shared_duel},
    {"shared-drain", test_shared_drain},
    {"shared-alone", test_shared_alone},
    {"shared-close", test_shared_close},
    {"shared-retire", test_shared_retire},
    {"shared-capacity", test_shared_capacity},
    {"semaphore", test_semaphore},
    {"semaphore-signals", test_semaphore_signals},
    {"semaphore-duel", test_semaphore_duel},
    {"semaphore-budget", test_semaphore_budget},
    {"queue-fifo", test_queue_fifo},
    {"queue-lifo", test_queue_lifo},
    {"queue-signals", test_queue_signals},
    {"cache", test_cache},
    {"cache-threads", test_cache_threads},
    {"cache-exact", test_cache_exact},
    {"cache-order", test_cache_order},
};
enum { TESTS = sizeof tests / sizeof *tests };

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "--list") == 0) {
        for (int i = 0; i < TESTS; i++) puts(tests[i].name);
        return 0;
    }
    for (int i = 0; count >= 4 && i < TESTS; i++)
        if (strcmp(arguments[1], tests[i].name) == 0) {
            title = tests[i].name;
            seed = strtoull(arguments[3], NULL, 10);
            dice_state = seed + 1;
            deadline = fp_clock_coarse() + (int64_t)(strtod(arguments[2], NULL) * 1e9);
            if (count > 4) patience = atoi(arguments[4]);
            CHECK(fp_install_thread_index() == 0);
            pthread_t watcher;
            pthread_create(&watcher, NULL, watch, NULL);
            tests[i].run();
            uint64_t steps = 0;
            for (int k = 0; k < 16; k++) steps += atomic_load(&workers[k].steps);
            printf("ok %s: %llu steps\n", title, (unsigned long long)steps);
            fflush(stdout);
            _exit(0); /* the watch goes on to the end */
        }
    fprintf(stderr, "usage: harness TEST SECONDS SEED [PATIENCE] | harness --list\n");
    return 2;
}
