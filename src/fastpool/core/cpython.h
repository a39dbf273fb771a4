/* What ties the core to CPython: its lock, how a thread sleeps, the registry of live blocks and how
 * the garbage collector sees what they hold.
 */
#ifndef FASTPOOL_CPYTHON_H
#define FASTPOOL_CPYTHON_H

#include <Python.h>

#define FP_MALLOC(n) PyMem_RawMalloc(n)
#define FP_FREE(p) PyMem_RawFree(p)

/* The lock of the slow path.  With a GIL, the GIL is the lock: no code under it calls Python.  On
 * free-threaded builds a PyMutex; the code under it is plain C, so it is held for nanoseconds. */
#ifdef Py_GIL_DISABLED
#define FP_ATOMIC 1
typedef PyMutex fp_lock;
#define fp_lock_init(l) memset((void *)(l), 0, sizeof *(l))
#define fp_lock_take(l) PyMutex_Lock(l)
#define fp_lock_drop(l) PyMutex_Unlock(l)
#else
#define FP_ATOMIC 0
typedef char fp_lock;
#define fp_lock_init(l) ((void)(l))
#define fp_lock_take(l) ((void)(l))
#define fp_lock_drop(l) ((void)(l))
#endif
struct fp_waiter;
static void fp_unpark(struct fp_waiter *w);
static inline void fp_defer_begin(void);
static inline void fp_defer_end(void);

/* Names the running thread, as threading.get_ident() does; even.  Bit 0 of a slot's owner says that
 * it is held by a `with` block. */
#ifdef _WIN32
#define fp_thread_token() ((uintptr_t)GetCurrentThreadId())
#else
#include <pthread.h>
#if defined(__x86_64__) && defined(__GLIBC__)
static inline uintptr_t fp_thread_token(void) { /* what pthread_self() reads, without the call */
    uintptr_t self;
    __asm__("mov %%fs:16, %0" : "=r"(self));
    return self;
}
#else
#define fp_thread_token() ((uintptr_t)pthread_self())
#endif
#endif

#include "object_cache.h"
#include "core.h"
#include "waiting/mailbox.h"
#include "slot_view.h"
#include "shared_pool.h"
#include "semaphore.h"
#include "loop_lookup.h"

static void fp_unpark(fp_waiter *w) {
    if (w->mailbox != NULL)
        fp_mailbox_post(w->mailbox, w);
    else
        PyThread_release_lock((PyThread_type_lock)w->park);
}

static Py_ssize_t fp_spin_ns = 5000; /* before a thread sleeps; 0 on a machine with one processor */

/* ---- Waiter records: on the heap, since a daemon thread that dies at interpreter exit leaves its
 * C stack behind while its record is still in a queue.  Kept for reuse with their locks. ---- */
static fp_lock fp_spare_lock;
static fp_waiter *fp_spare;
static int fp_spares;

static fp_waiter *fp_waiter_new(void) {
    fp_lock_take(&fp_spare_lock);
    fp_waiter *w = fp_spare;
    if (w != NULL) fp_spare = w->next, fp_spares--;
    fp_lock_drop(&fp_spare_lock);
    if (w == NULL) {
        if ((w = (fp_waiter *)PyMem_RawCalloc(1, sizeof *w)) == NULL) return NULL;
        if ((w->park = PyThread_allocate_lock()) == NULL) {
            PyMem_RawFree(w);
            return NULL;
        }
        PyThread_acquire_lock((PyThread_type_lock)w->park, WAIT_LOCK); /* no wake-up to be had yet */
    }
    w->prev = w->next = NULL;
    w->offer = w->grant = w->future = NULL;
    w->until = 0;
    w->mailbox = NULL;
    w->asleep = 0;
    return w;
}

static void fp_waiter_free(fp_waiter *w) {
    fp_lock_take(&fp_spare_lock);
    int keep = fp_spares < 256;
    if (keep) w->next = fp_spare, fp_spare = w, fp_spares++;
    fp_lock_drop(&fp_spare_lock);
    if (!keep) {
        PyThread_release_lock((PyThread_type_lock)w->park);
        PyThread_free_lock((PyThread_type_lock)w->park);
        PyMem_RawFree(w);
    }
}

/* A task's: from here on whoever ends the wait posts it.  0: it has been ended already. */
static int fp_waiter_park(fp_waiter *w) {
    int waiting = FP_WAITING;
    return atomic_compare_exchange_strong(&w->state, &waiting, FP_PARKED) || waiting == FP_PARKED;
}
static int fp_waiter_state(fp_waiter *w) { return atomic_load(&w->state); }

static uint64_t fp_forks; /* how often this process, or one that it descends from, was forked off */

/* ---- Sleeping ---- */

#ifdef _WIN32
#define fp_yield() SwitchToThread()
#else
#include <sched.h>
#define fp_yield() sched_yield()
#endif

/* Whether signal handlers run in this thread; where the system does not say: perhaps.  After a fork
 * the thread that forked is the main one. */
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
static _Thread_local int fp_thread_kind; /* 0: not known yet, 1: another thread, 2: the main one */
static int fp_runs_handlers(void) {
    if (fp_thread_kind == 0) fp_thread_kind = 1 + (syscall(SYS_gettid) == getpid());
    return fp_thread_kind == 2;
}
#define fp_forget_thread() ((void)(fp_thread_kind = 0))
#else
#define fp_forget_thread() ((void)0)
#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__)
#define fp_runs_handlers() (pthread_main_np() != 0)
#else
#define fp_runs_handlers() 1
#endif
#endif

/* One sleep, detached from the interpreter.  1: a signal came and a handler may have to run. */
static int fp_sleep(fp_waiter *w, int64_t deadline) {
    PyLockStatus status = PY_LOCK_FAILURE;
    Py_BEGIN_ALLOW_THREADS
    int nap = 0;
    if (!w->asleep) {
        if (fp_spin_ns > 0) {
            nap = fp_runs_handlers();
            int64_t until = fp_clock_precise() + fp_spin_ns;
            do {
                for (int i = 0; i < 32; i++) fp_pause();
                fp_yield(); /* whoever is to end the wait may share this processor */
            } while (atomic_load_explicit(&w->state, memory_order_relaxed) == FP_WAITING &&
                     fp_clock_precise() < until);
        }
        int waiting = FP_WAITING;
        w->asleep = atomic_compare_exchange_strong(&w->state, &waiting, FP_PARKED);
    }
    if (w->asleep) {
        PY_TIMEOUT_T us = -1;
        if (deadline != FP_NEVER) {
            int64_t left = deadline - fp_clock_precise();
            us = left <= 0 ? 0 : (PY_TIMEOUT_T)((left + 999) / 1000);
        }
        /* A signal that came during the spin, after the caller's look, does not end this sleep: look
         * once more soon.  Every later sleep follows its look at once. */
        if (nap && (us < 0 || us > 2000)) us = 2000;
#ifdef _WIN32 /* before 3.14 a signal does not end this wait there: look every 50 ms */
        if (us < 0 || us > 50000) us = 50000;
#endif
        status = PyThread_acquire_lock_timed((PyThread_type_lock)w->park, us, 1);
        if (status == PY_LOCK_ACQUIRED) w->asleep = 0;
    }
    Py_END_ALLOW_THREADS
#ifdef _WIN32
    return status != PY_LOCK_ACQUIRED;
#else
    return status == PY_LOCK_INTR;
#endif
}

/* A wake-up was sent, or is being sent: take it, or the next wait on this record ends at once. */
static void fp_consume(fp_waiter *w) {
    if (w->asleep && atomic_load(&w->state) != FP_PARKED)
        PyThread_acquire_lock((PyThread_type_lock)w->park, WAIT_LOCK);
    w->asleep = 0;
}

/* How a slow path may end, beside the states of a waiter. */
enum { FP_OVERLOADED = 16, FP_DEADLOCK, FP_MAY_OPEN, FP_MAY_OPEN_AT_HEAD, FP_MEMORY, FP_STOLEN };

/* A waiter that was notified looks for itself.  1: somebody was faster, but the manager may open one
 * more for it: it has left the queue. */
static int fp_look(fp_core *c, fp_wait_queue *queue, fp_waiter *w) {
    fp_lock_take(&c->lock);
    fp_notified(c, w);
    int may_open = c->use != FP_QUEUE && fp_has_capacity(c) && !(fp_gate(c) & FP_SUSPENDED) &&
               atomic_load(&w->state) == FP_WAITING;
    if (may_open) (void)fp_leave(c, queue, w);
    fp_lock_drop(&c->lock);
    return may_open;
}

/* Called once by a thread that is about to sleep, where an event loop may be running: loops of asyncio
 * and trio run what they run in a context, and gevent's greenlets may have none.  -1: it has raised. */
static int (*fp_before_wait)(fp_core *);
static int fp_gevent; /* it was imported */
#define fp_may_run_loop() (PyThreadState_Get()->context != NULL || fp_gevent)

/* Waits in the queue that `w` has joined.  The state it was settled in; FP_WAITING: the deadline
 * passed, and `w` has left the queue.  *interrupted: a signal handler raised; whatever was granted
 * meanwhile is the caller's to give back. */
static int fp_wait(fp_core *c, fp_wait_queue *queue, fp_waiter *w, int64_t deadline, int *interrupted) {
    *interrupted = 0;
    int look = fp_may_run_loop();
    uint64_t forks = fp_forks;
    for (;;) {
        int state = atomic_load(&w->state);
        if (state >= FP_NOTIFIED) {
            fp_consume(w);
            if (state != FP_NOTIFIED) return state == FP_EXPIRED ? FP_WAITING : state;
            int may_open = fp_look(c, queue, w);
            if (may_open) return FP_MAY_OPEN_AT_HEAD;
            continue;
        }
        if (deadline != FP_NEVER && fp_clock_precise() >= deadline) break;
        if (FP_UNLIKELY(look)) {
            look = 0;
            if (fp_before_wait(c) == 0) continue; /* it may have taken its time */
            *interrupted = 1;
            break;
        }
        /* before, for a signal that came on the way here: it would not end the sleep */
        if (PyErr_CheckSignals() < 0 || (fp_sleep(w, deadline) && PyErr_CheckSignals() < 0)) {
            *interrupted = 1;
            break;
        }
        if (FP_UNLIKELY(fp_forks != forks)) break;
    }
    if (FP_UNLIKELY(fp_forks != forks)) return FP_REFUSED; /* by a handler; its queue is the parent's */
    fp_lock_take(&c->lock);
    int ended = fp_leave(c, queue, w);
    fp_lock_drop(&c->lock);
    fp_consume(w);
    int state = ended ? atomic_load(&w->state) : FP_WAITING;
    return state == FP_EXPIRED ? FP_WAITING : state;
}

/* When a wait of `timeout_ns` that begins now is over; noted in the record, if there is one. */
static int64_t fp_set_deadline(fp_waiter *w, int64_t timeout_ns) {
    if (timeout_ns == FP_NEVER) return FP_NEVER; /* a new record says so */
    int64_t until = fp_later(fp_clock_precise(), timeout_ns);
    if (w != NULL) w->until = until;
    return until;
}

/* ---- Blocking queue operations ---- */

/* An item that was granted to one who does not want it any more, back to the end it came from; 0:
 * there is nowhere to keep it. */
static int fp_queue_put_back(fp_core *c, void *item) {
    fp_lock_take(&c->lock);
    int kept = c->items.cells != NULL && fp_deque_push(&c->items, item) == 0;
    if (kept && !c->lifo) {
        c->items.count--;
        c->items.head = (c->items.head - 1) & c->items.mask;
        c->items.cells[c->items.head] = item;
        c->items.count++;
    }
    fp_dispatch(c);
    fp_lock_drop(&c->lock);
    return kept;
}

/* The first half of a get, for threads and tasks: an item, or a position in the queue for `w` (NULL:
 * only try).  FP_WAITING: `w` has joined. */
static int fp_queue_get_join(fp_core *c, fp_waiter *w, void **item) {
    int state = FP_WAITING;
    fp_lock_take(&c->lock);
    uint32_t gate = fp_gate(c);
    if (gate & FP_CLOSED)
        state = FP_REFUSED;
    else if (!(gate & FP_HANDOFF) && (*item = fp_take_any(c)) != NULL) {
        state = FP_GRANTED;
        fp_dispatch(c); /* room for a putter */
    } else if (gate & FP_SHUT)
        state = FP_REFUSED;
    else if (w != NULL && c->getters.count >= c->max_waiting)
        state = FP_OVERLOADED;
    else if (w != NULL)
        fp_join(c, &c->getters, w, 0);
    fp_lock_drop(&c->lock);
    return state;
}

/* The same of a put. */
static int fp_queue_put_join(fp_core *c, fp_waiter *w, void *item) {
    int state = FP_WAITING;
    fp_lock_take(&c->lock);
    if (fp_gate(c) & (FP_CLOSED | FP_SHUT))
        state = FP_REFUSED;
    else if (c->putters.first == NULL && c->items.count < c->limit) {
        state = fp_queue_push(c, item) == FP_DONE ? FP_GRANTED : FP_MEMORY;
        fp_dispatch(c); /* something for a getter */
    } else if (w != NULL) {
        w->offer = item;
        fp_join(c, &c->putters, w, 0);
    }
    fp_lock_drop(&c->lock);
    return state;
}

/* `timeout_ns`: ns to wait at most; 0 tries only; FP_NEVER is for ever.  *interrupted: and
 * GRANTED, the item is the caller's to put back. */
static int fp_queue_get_slow(fp_core *c, int64_t timeout_ns, void **item, int *interrupted) {
    *interrupted = 0;
    fp_waiter *w = timeout_ns == 0 ? NULL : fp_waiter_new();
    if (timeout_ns != 0 && w == NULL) return FP_MEMORY;
    int64_t deadline = fp_set_deadline(w, timeout_ns);
    fp_defer_begin();
    int state = fp_queue_get_join(c, w, item);
    fp_defer_end();
    if (w != NULL && state == FP_WAITING) {
        state = fp_wait(c, &c->getters, w, deadline, interrupted);
        *item = w->grant;
    }
    if (w != NULL) fp_waiter_free(w);
    return state;
}

static int fp_queue_put_slow(fp_core *c, void *item, int64_t timeout_ns, int *interrupted) {
    *interrupted = 0;
    fp_waiter *w = timeout_ns == 0 ? NULL : fp_waiter_new();
    if (timeout_ns != 0 && w == NULL) return FP_MEMORY;
    int64_t deadline = fp_set_deadline(w, timeout_ns);
    fp_defer_begin();
    int state = fp_queue_put_join(c, w, item);
    fp_defer_end();
    if (w != NULL && state == FP_WAITING)
        state = fp_wait(c, &c->putters, w, deadline, interrupted);
    if (w != NULL) fp_waiter_free(w);
    return state;
}

static int fp_queue_join(fp_core *c, int *interrupted) {
    *interrupted = 0;
    fp_waiter *w = fp_waiter_new();
    if (w == NULL) return FP_MEMORY;
    fp_lock_take(&c->lock);
    int state = c->unfinished == 0 ? FP_GRANTED : FP_WAITING;
    if (state == FP_WAITING) fp_join(c, &c->joiners, w, 0);
    fp_lock_drop(&c->lock);
    if (state == FP_WAITING) state = fp_wait(c, &c->joiners, w, FP_NEVER, interrupted);
    fp_waiter_free(w);
    return state;
}

/* ---- Waiting for a part of a semaphore ---- */

/* The first half, for threads and tasks: `n` of it, or a position in the queue for `w` (NULL: only
 * try). FP_WAITING: `w` has joined. */
static int fp_weighted_join(fp_core *c, fp_waiter *w, uint64_t n) {
    int state = FP_WAITING;
    fp_defer_begin();
    fp_lock_take(&c->lock);
    uint32_t gate = fp_gate(c);
    if (gate & FP_CLOSED)
        state = FP_REFUSED;
    else if (n > fp_load(&c->weights.size, relaxed)) /* since the caller has looked: it would never */
        state = FP_DEADLOCK;
    else if (!(gate & FP_HANDOFF) && fp_weights_take(&c->weights, n))
        state = FP_GRANTED;
    else if (w != NULL && c->getters.count >= c->max_waiting)
        state = FP_OVERLOADED;
    else if (w != NULL) {
        w->weight = n;
        fp_join(c, &c->getters, w, 0);
    }
    fp_check(c);
    fp_lock_drop(&c->lock);
    fp_defer_end();
    return state;
}

/* `timeout_ns`: ns to wait at most; 0 tries only. */
static int fp_weighted_wait(fp_core *c, uint64_t n, int64_t timeout_ns, int *interrupted) {
    *interrupted = 0;
    fp_waiter *w = timeout_ns == 0 ? NULL : fp_waiter_new();
    if (timeout_ns != 0 && w == NULL) return FP_MEMORY;
    int64_t deadline = fp_set_deadline(w, timeout_ns);
    int state = fp_weighted_join(c, w, n);
    if (w != NULL && state == FP_WAITING)
        state = fp_wait(c, &c->getters, w, deadline, interrupted);
    if (*interrupted && state == FP_GRANTED) /* while the handler ran: on to the next */
        (void)fp_weighted_give(c, n);
    if (w != NULL) fp_waiter_free(w);
    return state;
}

/* ---- Waiting for a resource ---- */

/* Whether `me`, a thread or a task, inside `with` blocks, holds every resource that the cap allows: then
 * nobody else could ever end its wait.  Stops at the first slot that is not its own. */
static int fp_holds_all(fp_core *c, uintptr_t me) {
    size_t mine = 0;
    uint32_t used = fp_load(&c->slots.used, acquire);
    for (uint32_t k = 0; k < used; k++) {
        fp_segment *segment = fp_load(&c->slots.segments[k], acquire);
        for (uint32_t i = 0; i < segment->size; i++) {
            unsigned state = fp_state(fp_load(&segment->slots[i].word, acquire));
            if (state == FP_FREE_SLOT) continue;
            if (state != FP_LEASED ||
                fp_load(&segment->slots[i].owner, relaxed) != (me | 1))
                return 0;
            mine++;
        }
    }
    return mine != 0 && mine >= c->limit;
}

/* How many callers are going to be served by what is being opened, or may be. */
static size_t fp_capacity_pending(fp_core *c) {
    size_t most = fp_most_open(c), looked_at = 0;
    size_t resources = c->creating + (most > c->open ? most - c->open : 0);
    if (c->use != FP_SHARING) return resources;
    (void)fp_free_slots(&c->slots, &c->loads, SIZE_MAX, &looked_at);
    return resources * c->loads.slots + looked_at;
}

/* The first half of a wait, for threads and tasks: an idle slot, or a position in the queue for `w`
 * (NULL: only try).  `asked`: the manager was asked for one more, and the caller is one of `arriving`.
 * `in_front`: a waiter whose grant was no good.  FP_MAY_OPEN: ask the manager, one more may be opened;
 * FP_WAITING: `w` has joined.  *spare: a failure nobody is to see any more, for fp_drop_failure. */
static int fp_pool_join(fp_core *c, fp_waiter *w, uintptr_t me, int asked, int in_front,
                        fp_slot **slot, void **error, fp_waiter **spare) {
    int state = FP_WAITING;
    fp_waiter *failure = NULL;
    *slot = NULL;
    fp_lock_take(&c->lock);
    if (asked) {
        c->arriving--; /* under one lock with the join: demand never counts a caller twice */
        if ((failure = c->failures.first) != NULL) fp_wait_queue_remove(&c->failures, failure);
    }
    uint32_t gate = fp_gate(c);
    if (gate & FP_CLOSED)
        state = FP_REFUSED;
    else if (!(gate & (FP_HANDOFF | FP_SUSPENDED)) &&
             (*slot = (fp_slot *)fp_take_any(c)) != NULL)
        state = FP_GRANTED;
    else if (failure != NULL) { /* the try for this caller was over before it got here */
        state = FP_FAILED;
        *error = failure->grant;
        failure->grant = NULL;
    } else if (!asked && fp_has_capacity(c))
        state = FP_MAY_OPEN;
    else if (w != NULL && !in_front && c->max_waiting != SIZE_MAX && c->limit != SIZE_MAX &&
             c->getters.count >= c->max_waiting + fp_capacity_pending(c))
        state = FP_OVERLOADED;
    else if (w != NULL && c->use == FP_POOL && c->open >= c->limit && fp_holds_all(c, me))
        state = FP_DEADLOCK;
    else if (w != NULL) {
        fp_join(c, &c->getters, w, in_front);
        /* a hit that saw nobody in the queue may have been the last of a resource: see
         * fp_ask_for_more */
        if (!asked && c->use == FP_SHARING && fp_has_capacity(c) && !fp_leave(c, &c->getters, w))
            state = FP_MAY_OPEN;
    }
    if (FP_UNLIKELY(c->spent)) fp_ask_for_more(c);
    fp_check(c);
    fp_lock_drop(&c->lock);
    *spare = failure;
    return state;
}

static void fp_drop_failure(fp_waiter *failure) {
    if (failure == NULL) return;
    Py_XDECREF((PyObject *)failure->grant); /* who it was for was served after all */
    fp_waiter_free(failure);
}

/* The second half: notes how long the wait in the queue was. */
static void fp_waited(fp_core *c, fp_waiter *w) {
    int64_t waited = fp_clock_precise() - w->since;
    fp_lock_take(&c->lock);
    fp_times_add(&c->waits, waited);
    fp_lock_drop(&c->lock);
}

/* A slot as LEASED, for a thread, and the generation in which it was granted: it may be lent no more, if
 * somebody gave it back wrongly meanwhile.  The states of fp_pool_join and of a settled waiter. */
static int fp_pool_wait(fp_core *c, int64_t timeout_ns, int asked, int in_front, fp_slot **slot,
                        uint64_t *generation, void **error, int *interrupted) {
    *interrupted = 0;
    *slot = NULL;
    fp_waiter *w = timeout_ns == 0 ? NULL : fp_waiter_new(), *spare;
    if (timeout_ns != 0 && w == NULL) return FP_MEMORY;
    int64_t deadline = fp_set_deadline(w, timeout_ns);
    int state = fp_pool_join(c, w, fp_thread_token(), asked, in_front, slot, error, &spare);
    if (*slot != NULL) *generation = fp_slot_generation(*slot);
    if (w != NULL && state == FP_WAITING) {
        state = fp_wait(c, &c->getters, w, deadline, interrupted);
        if (state == FP_GRANTED) *slot = (fp_slot *)w->grant, *generation = w->generation;
        if (state == FP_FAILED) *error = w->grant;
        fp_waited(c, w);
    }
    if (w != NULL) fp_waiter_free(w);
    fp_drop_failure(spare);
    return state;
}

/* ---- Blocks ----
 *
 * Memory of a core is never given back to the system, only to the list of spare blocks: a lease holds
 * nothing but {block, id}, and may look at the block at any time, and take its lock.  An id is never
 * used twice, so it finds out that its pool is gone.
 */
static fp_lock fp_registry_lock;
static fp_core *fp_live, *fp_idle_blocks;
static uint64_t fp_ids;

static fp_core *fp_core_new(void) {
    fp_lock_take(&fp_registry_lock);
    fp_core *c = fp_idle_blocks;
    if (c != NULL) fp_idle_blocks = c->next;
    fp_lock_drop(&fp_registry_lock);
    if (c == NULL) {
        void *raw;
        if ((c = (fp_core *)fp_alloc_aligned(sizeof *c, &raw)) == NULL) return NULL;
        c->raw = raw;
        fp_lock_init(&c->lock); /* and never again: one with an old lease may be taking it */
    }
    if (fp_deque_init(&c->items) < 0 ||
        (c->slots.segments[0] == NULL && fp_slots_init(&c->slots) < 0)) {
        fp_lock_take(&fp_registry_lock);
        c->next = fp_idle_blocks;
        fp_idle_blocks = c;
        fp_lock_drop(&fp_registry_lock);
        return NULL;
    }
    c->limit = c->max_waiting = SIZE_MAX;
    c->fresh_for = FP_NEVER;
    c->timeout_ns = FP_NEVER;
    c->lifo = 1;
    fp_lock_take(&fp_registry_lock);
    fp_store(&c->id, ++fp_ids, relaxed);
    c->prev = NULL;
    if ((c->next = fp_live) != NULL) fp_live->prev = c;
    fp_live = c;
    fp_lock_drop(&fp_registry_lock);
    return c;
}

/* No waiter or pool is left, and no lease that is held: the block waits for the next pool. */
static void fp_core_retire(fp_core *c) {
    fp_lock_take(&fp_registry_lock);
    *(c->prev ? &c->prev->next : &fp_live) = c->next;
    if (c->next != NULL) c->next->prev = c->prev;
    fp_store(&c->id, 0, relaxed);
    fp_lock_drop(&fp_registry_lock);
    fp_lock_take(&c->lock);
    FP_FREE(c->items.cells);
#if !FP_ATOMIC
    /* On free-threaded builds an unentered lease may be looking at a slot at this very moment, so
     * there the segments stay with the block; with a GIL nobody can be in the middle. */
    fp_slots_clear(&c->slots);
#else
    FP_FREE(c->slots.by_item);
    c->slots.by_item = NULL;
    c->slots.by_item_count = 0;
    fp_slots_renew(&c->slots);
#endif
    char *gate = (char *)&c->gate, *queues = (char *)&c->getters;
    memset(gate, 0, (size_t)((char *)&c->lock - gate));
    memset(queues, 0, (size_t)((char *)&c->slots - queues));
    fp_lock_drop(&c->lock);
    fp_lock_take(&fp_registry_lock);
    c->next = fp_idle_blocks;
    fp_idle_blocks = c;
    fp_lock_drop(&fp_registry_lock);
}

/* ---- Fork ----
 *
 * Only the forking thread lives on, and no block is caught in the middle of a change: with a GIL the
 * forking thread has it, and free-threaded builds stop the world before.  No lock is taken for it.
 * One may belong to a stopped thread, which was handed it while it slept and has not begun; to wait
 * for that thread would be to wait for ever.  The child makes its locks anew.  Its lines are empty,
 * since those who stood in them are gone.  A pool starts with a new table and a new id: the parent's
 * resources stay referenced in the old one, are never used or closed here, and leases of the parent
 * no longer match.  Of a semaphore all is free: what was taken, the parent has.
 */
static void fp_after_fork_in_child(void) {
    fp_forget_thread();
    fp_forks++;
    fp_defer_depth = 0;
    fp_deferred_box = NULL;
    fp_mailbox_is_gone(); /* the loop that ran here is the parent's */
    fp_lock_init(&fp_registry_lock);
    fp_lock_init(&fp_spare_lock);
    fp_caches_after_fork();
    fp_spare = NULL;
    fp_spares = 0;
    for (fp_core *c = fp_live; c != NULL; c = c->next) {
        fp_lock_init(&c->lock);
        memset(&c->getters, 0, 4 * sizeof(fp_wait_queue));
        c->arriving = 0;
        fp_gate_clear(c, FP_WAITER_BITS);
        fp_store(&c->weights.taken, 0, relaxed);
        if (c->use == FP_POOL || c->use == FP_SHARING) {
            fp_store(&c->id, ++fp_ids, relaxed);
            c->last = NULL;
            c->open = c->creating = c->creating_in_caller = c->renewing = 0;
            fp_store(&c->loads.top, 0, relaxed);
            c->retired_uses = 0;
            memset(c->closed_for, 0, sizeof c->closed_for);
            memset(&c->waits, 0, sizeof c->waits);
            memset(&c->held, 0, sizeof c->held);
            memset(&c->creates, 0, sizeof c->creates);
            memset(c->counted, 0, sizeof c->counted);
            (void)fp_slots_init(&c->slots);
        }
    }
}

/* ---- What the garbage collector has to know: the items of a queue, the resources and the manager
 * of a pool.  Cython cannot express this, so the traversal of the owning type is wrapped. ---- */
static traverseproc fp_base_traverse;
static inquiry fp_base_clear;
static size_t fp_owner_offset; /* of the pointer to the block within the owning object */

static int fp_core_traverse(PyObject *self, visitproc visit, void *arg) {
    fp_core *c = *(fp_core **)((char *)self + fp_owner_offset);
    if (c != NULL) {
        if (c->use == FP_QUEUE)
            for (size_t i = 0; i < c->items.count; i++) Py_VISIT((PyObject *)fp_deque_at(&c->items, i));
        for (fp_waiter *w = c->putters.first; w != NULL; w = w->next) Py_VISIT((PyObject *)w->offer);
        FP_EACH_SLOT(c, slot)
        if (fp_slot_state(slot) != FP_FREE_SLOT) Py_VISIT((PyObject *)fp_load_item(slot));
        Py_VISIT((PyObject *)c->manager);
    }
    return fp_base_traverse ? fp_base_traverse(self, visit, arg) : 0;
}

/* Releases what a queue holds, one item at a time: each release may run any code. */
static void fp_queue_drain(fp_core *c) {
    while (c->use == FP_QUEUE) {
        PyObject *item = NULL;
        fp_lock_take(&c->lock);
        if (c->items.count != 0) item = (PyObject *)fp_deque_pop_head(&c->items);
        fp_lock_drop(&c->lock);
        if (item == NULL) break;
        Py_DECREF(item);
    }
}

static int fp_core_clear(PyObject *self) {
    fp_core *c = *(fp_core **)((char *)self + fp_owner_offset);
    if (c != NULL) fp_queue_drain(c);
    return fp_base_clear ? fp_base_clear(self) : 0;
}

/* The owner is being deallocated: nobody else looks at the block, but one with an old lease, under the
 * lock. */
static void fp_core_empty(fp_core *c) {
    fp_gate_set(c, FP_CLOSED);
    fp_queue_drain(c);
    FP_EACH_SLOT(c, slot) {
        fp_lock_take(&c->lock);
        unsigned state = fp_slot_state(slot);
        PyObject *item = state == FP_FREE_SLOT ? NULL : (PyObject *)fp_load_item(slot);
        if (state != FP_FREE_SLOT) {
            fp_slot_move(slot, state, FP_CLOSING);
            fp_slots_forget(&c->slots, slot);
            fp_slots_release(&c->slots, slot);
        }
        fp_lock_drop(&c->lock);
        Py_XDECREF(item);
    }
    fp_lock_take(&c->lock);
    PyObject *manager = (PyObject *)c->manager;
    c->open = c->creating = c->creating_in_caller = 0;
    c->manager = NULL;
    fp_lock_drop(&c->lock);
    Py_XDECREF(manager);
}

static void fp_install_traverse(PyTypeObject *type, size_t offset) {
    fp_owner_offset = offset;
    fp_base_traverse = type->tp_traverse;
    fp_base_clear = type->tp_clear;
    type->tp_traverse = fp_core_traverse;
    type->tp_clear = fp_core_clear;
}

#endif
