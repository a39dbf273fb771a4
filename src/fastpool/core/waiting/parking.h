/* How a thread sleeps and is woken: waiter records, and one wait in a queue. */
#ifndef FASTPOOL_PARKING_H
#define FASTPOOL_PARKING_H

#include "mailbox.h"

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
    int may_open = c->use != FP_QUEUE && fp_may_open(c) && !(fp_gate(c) & FP_SUSPENDED) &&
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

#endif
