/* The core: one gate word, the storage behind it, and the one locked slow path in which everybody
 * waits.
 *
 * Plain C11.  The includer gives, before including:
 *   fp_lock, fp_lock_init(l), fp_lock_take(l), fp_lock_drop(l)   a small mutex; nothing with a GIL
 *   fp_unpark(w)                                                 wakes the thread or task of `w`
 *   fp_defer_begin(), fp_defer_end()                             around what unparks, no lock held
 *   fp_thread_token()                                            names the running thread; a multiple of 4
 *
 * How nobody sleeps beside a free resource (the order of steps is the whole proof):
 *   a waiter:    1 joins the queue   2 sets its bit in the gate   3 looks for something free   4 sleeps
 *   a returner:  1 publishes        2 reads the gate             3 if a bit is set: dispatch
 * 2 and 3 of the waiter, 1 and 2 of the returner are seq_cst, so at least one of the two sees the
 * other.  dispatch() runs under the lock and matches what is free with the head of the queue, no
 * matter who calls it.
 *
 * A grant is data in the waiter's record.  Whoever ends the wait, for whatever reason, claims the
 * grant or puts it back; a waiter that was only notified and leaves passes the notice on.
 *
 * Fairness.  "fair": what comes back goes to the head of the queue, and newcomers queue (HANDOFF is
 * set whenever somebody waits).  "throughput": the head is notified, and newcomers may be faster,
 * until the head has waited fp_patience; from then on it is handed over as well.  That is the rule
 * of Go's sync.Mutex and of CPython's PyMutex.  While a notice is under way GETTERS is clear, so a
 * busy thread runs on the fast path and wakes nobody a second time; NOTICE has its returns look at
 * the coarse clock, since a head that is kept from the GIL cannot ask for anything.
 *
 * Permits for leases.  Where each lease takes a permit of a budget (FP_PERMITS) leases are given under the
 * lock alone, as long as there are fewer than allowed.  They are counted anew each time, as the sum of all
 * loads: returns, which take no lock, only make that smaller.  A permit is free as an item is: a waiter
 * that finds none is served by the return that it did not see.
 *
 * By deadline.  Who came later stands in front if its time is over sooner.  Who has all the time stands
 * as if that were over FP_UNHURRIED after it came, so that those who are in a hurry keep nobody away
 * for longer.
 */
#ifndef FASTPOOL_CORE_H
#define FASTPOOL_CORE_H

#include "platform/clock.h"
#include "storage/lease_counts.h"
#include "storage/semaphore_units.h"
#include "waiting/waiter.h"

/* ns before the head of a "throughput" queue asks for hand-off.  Set by tests alone, before the pool is
 * there: real time would keep a schedule from being the same twice. */
static int64_t fp_patience = 1000000;

/* ns after which the time of a waiter without a timeout counts as over in a queue by deadline. */
#define FP_UNHURRIED INT64_C(10000000000)

/* ---- Times: a histogram with power-of-two steps; added to under the lock ---- */
enum { FP_TIMES = 32 }; /* bucket i: below 2^i microseconds; the last one: the rest */
typedef struct {
    uint64_t counts[FP_TIMES];
    uint64_t count;
    int64_t sum, most; /* ns */
} fp_times;

static void fp_times_add(fp_times *t, int64_t ns) {
    unsigned bucket = 0;
    for (uint64_t us = ns < 0 ? 0 : (uint64_t)ns / 1000; us != 0 && bucket < FP_TIMES - 1; us >>= 1)
        bucket++;
    t->counts[bucket]++;
    t->count++;
    t->sum += ns;
    if (ns > t->most) t->most = ns;
}

/* ---- The gate: the one word that a hit reads beside its slot ---- */

enum {
    FP_CLOSED = 1,     /* nothing is given any more; set once */
    FP_SHUT = 2,       /* a queue takes no more items, but may still be emptied */
    FP_SUSPENDED = 4,  /* gets wait */
    FP_GETTERS = 8,    /* somebody waits to get and has no notice: a return must dispatch */
    FP_HANDOFF = 16,   /* newcomers must queue behind the head of the queue */
    FP_PUTTERS = 32,   /* somebody waits to put: gets must dispatch, puts must queue */
    FP_ASK_GET = 64,   /* a get always asks the manager: leases are tracked */
    FP_ASK_PUT = 128,  /* a put always asks the manager: reset hook, idle limit, tracking */
    FP_NOTICE = 256,   /* the head has a notice; a return after `handoff_at` must dispatch */
    FP_NOTIFY = 512,   /* what comes back may be wanted elsewhere: the manager is notified */
    FP_USED = 1024,    /* a measured use is to be told to listeners: see fp_pool_sampled */
    FP_PERMITS = 2048, /* sharing: each lease takes a permit of a budget, so a get counts them under the
                          lock; set before the first one, and never cleared */
    FP_RECALL = 4096,  /* sharing: permits are wanted elsewhere: the manager hears of each return */
    FP_WAITER_BITS = FP_GETTERS | FP_HANDOFF | FP_PUTTERS | FP_NOTICE,
    FP_GET_SLOW = FP_CLOSED | FP_SUSPENDED | FP_HANDOFF | FP_PUTTERS | FP_ASK_GET | FP_PERMITS,
    FP_PUT_SLOW = FP_CLOSED | FP_SHUT | FP_GETTERS | FP_PUTTERS | FP_ASK_PUT,
};

enum { FP_QUEUE, FP_POOL, FP_SHARING, FP_WEIGHTED };

typedef struct fp_core {
    /* read-mostly */
    _Alignas(FP_CACHE_LINE) FP_SHARED(uint64_t) id; /* never used twice; 0 for a block out of use */
    _Atomic(uint32_t) gate; /* writers: under the lock, by RMW; readers: every operation */
    int use;                /* FP_QUEUE, FP_POOL, FP_SHARING: several leases of one resource, or
                               FP_WEIGHTED: a semaphore, which is always fair */
    int lifo, fair;
    FP_SHARED(int) timed; /* returns read the clock: idle time or life time is limited, or checks */
    FP_SHARED(int) listened; /* there are listeners; writer: under the lock; readers: the slow path */
    int has_check;       /* leases read it too: there is a check hook */
    int sharded;         /* an async factory: each event loop has a core of its own, see loop_lookup.h */
    int64_t *clock;      /* a manual clock for tests, or NULL */
    /* ns an idle resource needs no question: min of idle time, check_after.  Of these three: writer,
     * under the lock: `configure`, at any time; readers: anyone, one by one */
    FP_SHARED(int64_t) fresh_for;
    FP_SHARED(int64_t) handoff_at; /* ns, valid with NOTICE: the head's patience ends; lock */
    fp_loads loads;      /* sharing */
    fp_weights weights;  /* weighted */
    size_t limit;        /* queue: items at most; pool: open resources at most; SIZE_MAX: no cap */
    FP_SHARED(int64_t) timeout_ns; /* ns a call waits at most unless it says otherwise */
    void *manager;       /* pool use: who is asked for everything that is not a hit */
    fp_slot *last;       /* GIL builds: the slot lent last, a guess for the next return */
    /* slow path: under the lock */
    _Alignas(FP_CACHE_LINE) fp_lock lock;
    fp_wait_queue getters, putters, joiners;
    fp_wait_queue failures; /* of creations, for callers who are still on their way to the queue */
    size_t open;         /* slots that are not FREE: what the cap counts */
    size_t creating;     /* slots in CREATING */
    size_t creating_in_caller; /* of these: of callers who call the factory themselves */
    size_t in_flight;    /* creations of workers and tasks until their caller has been served */
    size_t delivered;    /* of these: what they made is idle or lent already */
    size_t renewing;     /* sharing: resources that will take no more leases once another is open */
    int short_of_permits; /* the manager is to hear, or has heard, that more permits are wanted */
    int spent;           /* sharing: the head of the queue may have to ask; see fp_ask_for_more */
    size_t arriving;     /* callers who have asked for a creation and are about to join the queue */
    size_t unfinished;   /* queue: items put and not yet task_done() */
    size_t max_waiting;  /* SIZE_MAX: no limit */
    int by_deadline;     /* getters stand by when their time is over, not by when they came */
    size_t allowance;    /* pool: permits of its budget, a second cap; SIZE_MAX: no budget */
    size_t most_leases;  /* sharing: permits of its budget where each lease takes one; with FP_PERMITS */
    uint64_t tickets;
    uint64_t retired_uses; /* uses of resources that are gone */
    uint64_t closed_for[16]; /* resources closed, by the number of the reason */
    uint64_t counted[4];     /* what else has happened, by its number: see Core.count */
    fp_times waits, held;  /* time in the queue, all; time in use, sampled */
    fp_times creates;      /* of creations that went well */
    int64_t used;          /* ns of the measured use that is to be told; with FP_USED */
    fp_deque items;           /* queue use */
    fp_slots slots;           /* pool use */
    struct fp_core *next, *prev; /* all blocks in use; under the registry's lock */
    void *raw;
} fp_core;

static inline uint32_t fp_gate(fp_core *c) {
    /* seq_cst: the load half of the store-load pair with a waiter's bit */
    FP_STEP();
    return atomic_load_explicit(&c->gate, memory_order_seq_cst);
}

static inline void fp_gate_set(fp_core *c, uint32_t bits) { atomic_fetch_or(&c->gate, bits); }
static inline void fp_gate_clear(fp_core *c, uint32_t bits) { atomic_fetch_and(&c->gate, ~bits); }

static inline int64_t fp_span(fp_core *c) { return fp_load(&c->timeout_ns, relaxed); }

static inline int64_t fp_now(fp_core *c) {
    return FP_UNLIKELY(c->clock != NULL) ? *(volatile int64_t *)c->clock : fp_clock_coarse();
}

/* ---- Dispatch: under the lock ---- */

static int fp_impatient(fp_core *c, fp_waiter *head) {
    return c->fair || fp_clock_precise() - head->since >= fp_patience;
}

/* Sets the waiter bits to what the queues say.  Before the last look for something free, always. */
static void fp_gate_refresh(fp_core *c) {
    uint32_t bits = 0, was = atomic_load_explicit(&c->gate, memory_order_relaxed);
    fp_waiter *head = c->getters.first;
    if (head != NULL) {
        int notified = atomic_load_explicit(&head->state, memory_order_relaxed) == FP_NOTIFIED;
        if (fp_impatient(c, head))
            bits |= FP_HANDOFF | FP_GETTERS;
        else if (!notified)
            bits |= FP_GETTERS;
        else {
            fp_store(&c->handoff_at, head->since + fp_patience, relaxed);
            bits |= FP_NOTICE;
        }
    }
    if (c->putters.first != NULL) bits |= FP_PUTTERS;
    while (!atomic_compare_exchange_weak(&c->gate, &was, (was & ~(uint32_t)FP_WAITER_BITS) | bits)) {}
}

/* Ends the wait of `w`, which has left the queue. */
static void fp_end_wait(fp_waiter *w, int state, void *grant) {
    w->grant = grant;
    /* the exchange publishes `grant`; only a sleeper needs, and must get, exactly one wake-up */
    if (atomic_exchange(&w->state, state) == FP_PARKED) fp_unpark(w);
}

static void fp_refuse_all(fp_wait_queue *queue) {
    fp_waiter *w;
    while ((w = queue->first) != NULL) {
        fp_wait_queue_remove(queue, w);
        fp_end_wait(w, FP_REFUSED, NULL);
    }
}

/* Takes the head out if its time is over: the owner, one of many perhaps that have to find out in one
 * thread or loop, would only give back what it is given.  A task is not woken: the timer of its loop
 * does that, for a few at a time. */
static int fp_expired(fp_wait_queue *queue, int *noticed) {
    fp_waiter *w = queue->first;
    if (w == NULL || w->until == 0 || w->until > fp_clock_precise()) return 0;
    if (atomic_load_explicit(&w->state, memory_order_relaxed) == FP_NOTIFIED) *noticed = 1;
    fp_wait_queue_remove(queue, w);
    int sleeps_on = w->mailbox != NULL; /* read before: a thread's record may be gone after */
    if (atomic_exchange(&w->state, FP_EXPIRED) == FP_PARKED && !sleeps_on) fp_unpark(w);
    return 1;
}

/* A lease of the least loaded resource, or NULL. */
FP_INLINE fp_slot *fp_sharing_take(fp_core *c) {
    int64_t now = 0;
    if (FP_UNLIKELY(c->has_check || fp_load(&c->loads.penalty_until, relaxed) != 0)) {
        now = fp_now(c);
        int64_t until = fp_load(&c->loads.penalty_until, relaxed);
        if (now >= until) /* a later one that comes in between stays */
            (void)fp_cas(&c->loads.penalty_until, &until, 0, relaxed);
    }
    return fp_least_take(&c->slots, &c->loads, now, c->has_check ? now : 0);
}

/* Whether leases take permits of a budget. */
static inline int fp_counts_leases(fp_core *c) { return (fp_gate(c) & FP_PERMITS) != 0; }

/* Leases that may be given beside those that there are; SIZE_MAX: any number.  Under the lock. */
static size_t fp_spare_permits(fp_core *c) {
    if (!fp_counts_leases(c)) return SIZE_MAX;
    size_t draining, leases = fp_count_leases(&c->slots, &c->loads, &draining);
    return leases < c->most_leases ? c->most_leases - leases : 0;
}

static void *fp_take_any(fp_core *c) {
    if (c->use == FP_POOL) return fp_idle_take(&c->slots, c->lifo);
    if (c->use == FP_SHARING) {
        if (fp_spare_permits(c) == 0) return NULL;
        fp_slot *slot = fp_sharing_take(c);
        if (slot == NULL) return NULL;
        if (fp_is_spent(&c->loads, slot)) c->spent = 1;
        if (fp_counts_leases(c)) fp_slot_borrow(slot);
        return slot;
    }
    if (c->items.count == 0) return NULL;
    return c->lifo ? fp_deque_pop_tail(&c->items) : fp_deque_pop_head(&c->items);
}

/* What the head waits for, or NULL: then nobody behind it gets anything either. */
static inline void *fp_take_for(fp_core *c, fp_waiter *head) {
    if (c->use != FP_WEIGHTED) return fp_take_any(c);
    return fp_weights_take(&c->weights, head->weight) ? c : NULL;
}

/* Of a slot that has just been taken; 0 for what is none. */
static inline uint64_t fp_grant_generation(fp_core *c, void *grant) {
    if (c->use != FP_POOL && c->use != FP_SHARING) return 0;
    return fp_generation(fp_load(&((fp_slot *)grant)->word, relaxed));
}

static int fp_any_likely(fp_core *c) {
    uint64_t load;
    if (c->use == FP_POOL) return fp_idle_likely(&c->slots);
    if (c->use == FP_SHARING) /* 1: at no time, but for a resource that is avoided */
        return fp_spare_permits(c) != 0 && fp_least_loaded(&c->slots, &c->loads, 1, &load) != NULL;
    return c->items.count != 0;
}

/* So many resources the pool itself would have open: in a shared pool what is on its way out is not
 * counted, up to as many again. */
static size_t fp_own_most_open(fp_core *c) {
    if (c->use != FP_SHARING || c->limit == SIZE_MAX) return c->limit;
    size_t spared = c->renewing + fp_draining(&c->slots, &c->loads);
    return c->limit + (spared < c->limit ? spared : c->limit);
}

/* The same under its budget, for which a resource counts until it is closed. */
static size_t fp_most_open(fp_core *c) {
    size_t most = fp_own_most_open(c);
    return most < c->allowance ? most : c->allowance;
}

/* Whether one more resource may be opened. */
static int fp_has_capacity(fp_core *c) { return c->open < fp_most_open(c); }

/* The same for a caller, who may be without a permit for the lease. */
static int fp_may_open(fp_core *c) { return fp_has_capacity(c) && fp_spare_permits(c) != 0; }

/* Callers who want a lease. */
static size_t fp_callers(fp_core *c) { return c->getters.count + c->arriving - c->failures.count; }

/* Whether a permit is wanting for one more caller, and not a slot of all that the pool itself may open. */
static int fp_lacks_permits(fp_core *c) {
    size_t draining, callers = fp_callers(c) + 1;
    size_t leases = fp_count_leases(&c->slots, &c->loads, &draining);
    if (c->limit != SIZE_MAX) {
        size_t most = c->limit * c->loads.slots, staying = leases - draining;
        size_t available = most > staying ? most - staying : 0;
        if (callers > available) callers = available;
    }
    return leases + callers > c->most_leases;
}

/* Whether a caller for whom nothing is idle has to have the manager ask for one more permit: the first
 * one since the budget has looked, so that a long queue costs what it costs in a pool that is full. */
static int fp_asks_for_permit(fp_core *c) {
    if (c->short_of_permits) return 0;
    if (fp_counts_leases(c)) {
        if (!fp_lacks_permits(c)) return 0;
    } else if (c->allowance == SIZE_MAX || c->open >= fp_own_most_open(c)) {
        return 0;
    }
    c->short_of_permits = 1;
    return 1;
}

static void fp_match(fp_core *c, int *noticed) {
    fp_waiter *w;
    for (;;) {
        while (fp_expired(&c->getters, noticed) || fp_expired(&c->putters, noticed)) {}
        fp_gate_refresh(c);
        uint32_t gate = fp_gate(c);
        if (c->use == FP_QUEUE && (w = c->putters.first) != NULL && c->items.count < c->limit) {
            if (fp_deque_push(&c->items, w->offer) == 0) {
                fp_wait_queue_remove(&c->putters, w);
                c->unfinished++;
                fp_end_wait(w, FP_GRANTED, NULL);
                continue;
            } /* out of memory: the putter waits on and nothing is lost */
        }
        if ((gate & FP_SHUT) && c->items.count == 0) fp_refuse_all(&c->getters);
        w = c->getters.first;
        if (w == NULL || (gate & (FP_CLOSED | FP_SUSPENDED))) return;
        if (gate & FP_HANDOFF) {
            void *free = fp_take_for(c, w);
            if (free == NULL) return;
            fp_wait_queue_remove(&c->getters, w);
            w->generation = fp_grant_generation(c, free);
            fp_end_wait(w, FP_GRANTED, free);
        } else {
            if ((gate & FP_GETTERS) == 0) return; /* notified already; it will look for itself */
            if (!fp_any_likely(c)) return;
            if (atomic_exchange(&w->state, FP_NOTIFIED) == FP_PARKED) fp_unpark(w);
        }
    }
}

/* A notice is used up, and while it was under way others may have taken what the manager counted upon:
 * where nothing is idle any more but one may be opened, the next in the queue is to ask for it. */
static void fp_pass_on(fp_core *c) {
    fp_waiter *next = c->getters.first;
    if (c->use == FP_QUEUE || next == NULL || !fp_may_open(c)) return;
    if (c->use == FP_POOL && c->fair) return; /* nobody has a notice there */
    if (fp_gate(c) & (FP_CLOSED | FP_SUSPENDED) || fp_any_likely(c)) return;
    if (atomic_exchange(&next->state, FP_NOTIFIED) == FP_PARKED) fp_unpark(next);
}

/* A resource was lent for the last time, which frees capacity for another one; or a lease has ended, and
 * with its permit another resource may be of use.  The manager does not know: the head of the queue, if
 * somebody waits, is to ask for it. */
static FP_COLD void fp_ask_for_more(fp_core *c) {
    fp_waiter *head = c->getters.first;
    c->spent = 0;
    if (head == NULL || fp_gate(c) & (FP_CLOSED | FP_SUSPENDED) || !fp_may_open(c)) return;
    if (atomic_exchange(&head->state, FP_NOTIFIED) == FP_PARKED) fp_unpark(head);
}

static void fp_dispatch(fp_core *c) {
    int noticed = 0; /* and gone, since its time was over */
    fp_match(c, &noticed);
    if (noticed) fp_pass_on(c);
    if (FP_UNLIKELY(c->spent)) fp_ask_for_more(c);
}

/* Whether the head, which has had a notice, has waited long enough to be handed what comes back. */
static inline int fp_head_is_late(fp_core *c, uint32_t gate) {
    return gate & FP_NOTICE && fp_clock_coarse() >= fp_load(&c->handoff_at, relaxed);
}

/* A return found a bit in the gate. */
static FP_COLD void fp_dispatch_locked(fp_core *c) {
    fp_defer_begin();
    fp_lock_take(&c->lock);
    if (fp_counts_leases(c)) c->spent = 1;
    fp_dispatch(c);
    fp_lock_drop(&c->lock);
    fp_defer_end();
}

/* ---- Waiting: each under the lock ---- */

static void fp_join(fp_core *c, fp_wait_queue *queue, fp_waiter *w, int in_front) {
    atomic_store_explicit(&w->state, FP_WAITING, memory_order_relaxed);
    w->grant = NULL;
    w->tried = w->asleep = 0;
    w->ticket = ++c->tickets;
    w->since = fp_clock_precise();
    if (FP_UNLIKELY(c->by_deadline) && queue == &c->getters) {
        w->rank = in_front ? INT64_MIN : w->until != 0 ? w->until : w->since + FP_UNHURRIED;
        fp_wait_queue_add_ranked(queue, w);
    } else
        fp_wait_queue_add(queue, w, in_front);
    fp_dispatch(c);
}

/* The owner was notified: take what is free and leave the queue, or go on waiting. */
static void fp_notified(fp_core *c, fp_waiter *w) {
    if (atomic_load(&w->state) == FP_NOTIFIED) {
        void *free = fp_gate(c) & (FP_CLOSED | FP_SUSPENDED) ? NULL : fp_take_any(c);
        if (free != NULL) {
            fp_wait_queue_remove(&c->getters, w);
            w->generation = fp_grant_generation(c, free);
            w->grant = free;
            atomic_store(&w->state, FP_GRANTED);
        } else {
            atomic_store(&w->state, FP_WAITING);
        }
        fp_dispatch(c);
        /* granted, or out of time just now; else it asks for room itself */
        if (atomic_load(&w->state) != FP_WAITING) fp_pass_on(c);
    }
}

/* The owner gives up.  1: it was settled before, and the grant is the owner's to deal with. */
static int fp_leave(fp_core *c, fp_wait_queue *queue, fp_waiter *w) {
    int state = atomic_load(&w->state);
    if (state >= FP_GRANTED) return 1;
    fp_wait_queue_remove(queue, w);
    fp_dispatch(c); /* passes on a notice that it may have had */
    if (state == FP_NOTIFIED) fp_pass_on(c);
    return 0;
}

/* The waiter for whom the next creation is: the first without a try; 0: a caller on its way to the
 * queue, if there is one; else the head once more. */
static uint64_t fp_assign(fp_core *c) {
    for (fp_waiter *w = c->getters.first; w != NULL; w = w->next)
        if (!w->tried) {
            w->tried = 1;
            return w->ticket;
        }
    return c->arriving == 0 && c->getters.first != NULL ? c->getters.first->ticket : 0;
}

/* Since when the waiter behind the first `skip` has waited; FP_NEVER: the queue is shorter. */
static int64_t fp_waits_since(fp_core *c, size_t skip) {
    fp_waiter *w = c->getters.first;
    while (w != NULL && skip-- != 0) w = w->next;
    return w == NULL ? FP_NEVER : w->since;
}

/* Raises `error` in the waiter that holds the ticket; 0 if it is not waiting any more.  Ticket 0: in
 * the caller who was on its way; `note` keeps the error if it still is, and is used up then (2). */
static int fp_fail(fp_core *c, uint64_t ticket, void *error, fp_waiter *note) {
    for (fp_waiter *w = c->getters.first; w != NULL; w = w->next)
        if (ticket ? w->ticket == ticket : !w->tried) {
            fp_wait_queue_remove(&c->getters, w);
            fp_end_wait(w, FP_FAILED, error);
            fp_dispatch(c);
            return 1;
        }
    if (ticket != 0 || c->arriving <= c->failures.count) return 0;
    note->grant = error;
    fp_wait_queue_add(&c->failures, note, 0);
    return 2;
}

/* A failure that no caller is left to see; the caller's to release. */
static fp_waiter *fp_spare_failure(fp_core *c) {
    fp_waiter *failure = c->failures.count > c->arriving ? c->failures.first : NULL;
    if (failure != NULL) fp_wait_queue_remove(&c->failures, failure);
    return failure;
}

/* The same in a shared pool: resources that they could do with, beside those that are being looked at
 * and will be lent again. */
static size_t fp_sharing_demand(fp_core *c, size_t callers) {
    size_t permits = fp_spare_permits(c); /* nothing is opened for who has to wait for one */
    if (callers > permits) callers = permits;
    size_t pending, free = fp_free_slots(&c->slots, &c->loads, callers, &pending);
    free += pending;
    return callers <= free ? 0 : (callers - free + c->loads.slots - 1) / c->loads.slots;
}

/* Callers for whom nothing is idle: those in the queue and those on their way, less the idle resources
 * that they will find, or have been notified of, and less those who will be told of a failure. */
static size_t fp_demand(fp_core *c) {
    size_t callers = fp_callers(c), idle = 0;
    if (c->use == FP_SHARING) return fp_sharing_demand(c, callers);
    if (callers != 0 && fp_idle_likely(&c->slots)) {
        uint32_t used = fp_load(&c->slots.used, acquire);
        for (uint32_t k = 0; k < used && idle < callers; k++) {
            fp_segment *segment = fp_load(&c->slots.segments[k], acquire);
            for (uint32_t i = 0; i < segment->size && idle < callers; i++)
                idle += fp_state(fp_load(&segment->slots[i].word, relaxed)) == FP_IDLE;
        }
    }
    return callers - idle;
}

#endif
