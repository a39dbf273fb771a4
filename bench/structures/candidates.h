/* Storage candidates for the core: plain C11, no Python.h, payload `void *`, never NULL.
 *
 * Sources: the stamped ring is Dmitry Vyukov's bounded MPMC queue with the tail re-check that
 * crossbeam's ArrayQueue adds; the tagged stack is R. K. Treiber's with a version tag; slot words
 * with per-thread hints are the idea of HikariCP's ConcurrentBag.
 *
 * Every atomic is seq_cst unless a comment names the partner that allows less. There are no
 * stand-alone fences: ThreadSanitizer does not model them.
 *
 * The includer may define MUTEX, MUTEX_INIT(m), MUTEX_LOCK(m) and MUTEX_UNLOCK(m). */
#ifndef STRUCTURES_CANDIDATES_H
#define STRUCTURES_CANDIDATES_H

#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef MUTEX
#include <pthread.h>
#define MUTEX pthread_mutex_t
#define MUTEX_INIT(m) pthread_mutex_init((m), NULL)
#define MUTEX_LOCK(m) pthread_mutex_lock(m)
#define MUTEX_UNLOCK(m) pthread_mutex_unlock(m)
#endif

#if defined(__x86_64__) || defined(__i386__)
#define cpu_relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define cpu_relax() __asm__ volatile("isb" ::: "memory")
#else
#define cpu_relax() ((void)0)
#endif

#define CACHE_LINE 64
#define ALWAYS_INLINE static inline __attribute__((always_inline))

static void *block_new(size_t size) { /* zeroed, on its own cache lines */
    size = (size + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
    void *block = aligned_alloc(CACHE_LINE, size);
    return block ? memset(block, 0, size) : NULL;
}

static inline size_t power_of_two(size_t least, size_t n) {
    size_t p = least;
    while (p < n) p <<= 1;
    return p;
}

/* Wait after losing a race: twice as long each time up to BACKOFF_PAUSES, then let others run,
 * since the thread that we wait for may have been preempted on this very core. */
#ifndef BACKOFF_PAUSES
#define BACKOFF_PAUSES 64u
#endif
static inline void back_off(unsigned *pauses) {
    for (unsigned i = 0; i < *pauses; i++) cpu_relax();
    if (*pauses < BACKOFF_PAUSES) *pauses *= 2;
    else sched_yield();
}

/* ---- 1. plain growable ring: the caller holds the GIL or a lock --------------------------- */

struct ring {
    void **cell;
    size_t mask;       /* cells - 1 */
    size_t head, tail; /* positions that only grow in use as FIFO; tail - head items are held */
};

static bool ring_init(struct ring *r, size_t n) {
    size_t cells = power_of_two(8, n);
    r->head = r->tail = 0;
    r->mask = cells - 1;
    return (r->cell = calloc(cells, sizeof *r->cell)) != NULL;
}

static bool ring_grow(struct ring *r) {
    size_t cells = r->mask + 1;
    void **cell = malloc(2 * cells * sizeof *cell);
    if (!cell) return false;
    for (size_t i = 0; i < cells; i++) cell[i] = r->cell[(r->head + i) & r->mask];
    free(r->cell);
    *r = (struct ring){.cell = cell, .mask = 2 * cells - 1, .head = 0, .tail = cells};
    return true;
}

static inline bool ring_push(struct ring *r, void *item) {
    if (r->tail - r->head > r->mask && !ring_grow(r)) return false;
    r->cell[r->tail++ & r->mask] = item;
    return true;
}

static inline void *ring_pop_tail(struct ring *r) { /* LIFO */
    return r->tail == r->head ? NULL : r->cell[--r->tail & r->mask];
}

static inline void *ring_pop_head(struct ring *r) { /* FIFO */
    return r->tail == r->head ? NULL : r->cell[r->head++ & r->mask];
}

static struct ring *ring_new(size_t n) {
    struct ring *r = block_new(sizeof *r);
    if (r && !ring_init(r, n)) free(r), r = NULL;
    return r;
}

static void ring_free(struct ring *r) {
    if (r) free(r->cell), free(r);
}

/* ---- 2. the same ring behind one mutex ----------------------------------------------------- */

struct locked_ring {
    alignas(CACHE_LINE) MUTEX mutex;
    struct ring ring; /* read and written under the mutex only */
};

static struct locked_ring *locked_ring_new(size_t n) {
    struct locked_ring *r = block_new(sizeof *r);
    if (!r) return NULL;
    MUTEX_INIT(&r->mutex);
    if (!ring_init(&r->ring, n)) free(r), r = NULL;
    return r;
}

static void locked_ring_free(struct locked_ring *r) {
    if (r) free(r->ring.cell), free(r);
}

static inline bool locked_ring_push(struct locked_ring *r, void *item) {
    MUTEX_LOCK(&r->mutex);
    bool done = ring_push(&r->ring, item);
    MUTEX_UNLOCK(&r->mutex);
    return done;
}

static inline void *locked_ring_pop_tail(struct locked_ring *r) {
    MUTEX_LOCK(&r->mutex);
    void *item = ring_pop_tail(&r->ring);
    MUTEX_UNLOCK(&r->mutex);
    return item;
}

static inline void *locked_ring_pop_head(struct locked_ring *r) {
    MUTEX_LOCK(&r->mutex);
    void *item = ring_pop_head(&r->ring);
    MUTEX_UNLOCK(&r->mutex);
    return item;
}

/* ---- 4. stamped ring: bounded, many producers, many consumers, FIFO ------------------------ */

/* A position is claimed by moving a cursor and handed over by the cell's stamp, 64 bits wide, so
 * that it never wraps. For position p: stamp p = free for the pusher of p, p + 1 = filled for the
 * popper of p, p + cells = free for the next lap. Two cells at least, or the last two coincide. */
struct stamped_cell {
    _Atomic uint64_t stamp;
    void *item; /* written between claim and stamp; the stamp's release/acquire orders it */
};

struct stamped_ring {
    alignas(CACHE_LINE) _Atomic uint64_t head;
    alignas(CACHE_LINE) _Atomic uint64_t tail;
    alignas(CACHE_LINE) uint64_t cells; /* this line is read only after stamped_ring_new */
    struct stamped_cell *cell;
};

static void stamped_ring_free(struct stamped_ring *r) {
    if (r) free(r->cell), free(r);
}

static struct stamped_ring *stamped_ring_new(size_t n) {
    struct stamped_ring *r = block_new(sizeof *r);
    if (!r) return NULL;
    r->cells = power_of_two(2, n);
    r->cell = block_new(r->cells * sizeof *r->cell);
    if (!r->cell) return stamped_ring_free(r), NULL;
    for (uint64_t i = 0; i < r->cells; i++) atomic_init(&r->cell[i].stamp, i);
    return r;
}

/* The cursors are read relaxed at first: a stale value fails the stamp test or the CAS. */
static inline bool stamped_ring_push(struct stamped_ring *r, void *item) {
    unsigned pauses = 1;
    for (;;) {
        uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
        struct stamped_cell *cell = &r->cell[tail & (r->cells - 1)];
        /* acquire: pairs with the popper's release, or we would overwrite what it still reads */
        uint64_t stamp = atomic_load_explicit(&cell->stamp, memory_order_acquire);
        if (stamp == tail) {
            if (atomic_compare_exchange_strong(&r->tail, &tail, tail + 1)) {
                cell->item = item;
                atomic_store_explicit(&cell->stamp, tail + 1, memory_order_release);
                return true;
            }
        } else if (stamp + r->cells == tail + 1 && atomic_load(&r->head) + r->cells == tail) {
            return false; /* full at the instant of that load: head cannot be behind it */
        }
        back_off(&pauses);
    }
}

static inline void *stamped_ring_pop(struct stamped_ring *r) {
    unsigned pauses = 1;
    for (;;) {
        uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
        struct stamped_cell *cell = &r->cell[head & (r->cells - 1)];
        /* acquire: pairs with the pusher's release, which makes the item visible */
        uint64_t stamp = atomic_load_explicit(&cell->stamp, memory_order_acquire);
        if (stamp == head + 1) {
            if (atomic_compare_exchange_strong(&r->head, &head, head + 1)) {
                void *item = cell->item;
                atomic_store_explicit(&cell->stamp, head + r->cells, memory_order_release);
                return item;
            }
        } else if (stamp == head && atomic_load(&r->tail) == head) {
            /* Empty at the instant of that load, since head <= real head <= tail. "Not filled yet"
             * alone would not do: a push in progress may hide finished ones behind it. */
            return NULL;
        }
        back_off(&pauses);
    }
}

/* ---- 5. tagged index stack: bounded, LIFO --------------------------------------------------- */

/* A list head packs {tag:40, index + 1:24}; each change counts the tag up, so that a head that went
 * away and came back is not mistaken for the old one (ABA). */
struct node {
    _Atomic uint32_t next; /* index + 1; atomic since a loser may read it while it is relinked */
    void *item;            /* owned by whoever unlinked the node; the head's CAS hands it over */
};

struct tagged_stack {
    alignas(CACHE_LINE) _Atomic uint64_t filled;
    alignas(CACHE_LINE) _Atomic uint64_t spare;
    alignas(CACHE_LINE) struct node *node;
};

#define NODE_BITS 24
#define NODE_MASK ((UINT64_C(1) << NODE_BITS) - 1)

static inline struct node *node_unlink(_Atomic uint64_t *head, struct node *node) {
    unsigned pauses = 1;
    for (;;) {
        uint64_t old = atomic_load(head);
        uint64_t top = old & NODE_MASK;
        if (!top) return NULL;
        /* relaxed: if the node was relinked meanwhile, the tag has moved and the CAS fails */
        uint64_t next = atomic_load_explicit(&node[top - 1].next, memory_order_relaxed);
        uint64_t tag = (old >> NODE_BITS) + 1;
        if (atomic_compare_exchange_strong(head, &old, tag << NODE_BITS | next))
            return &node[top - 1];
        back_off(&pauses);
    }
}

static inline void node_link(_Atomic uint64_t *head, struct node *node, struct node *one) {
    unsigned pauses = 1;
    for (;;) {
        uint64_t old = atomic_load_explicit(head, memory_order_relaxed);
        /* relaxed: published by the CAS below */
        atomic_store_explicit(&one->next, (uint32_t)(old & NODE_MASK), memory_order_relaxed);
        uint64_t tag = (old >> NODE_BITS) + 1;
        if (atomic_compare_exchange_strong(head, &old,
                                           tag << NODE_BITS | (uint64_t)(one - node + 1)))
            return;
        back_off(&pauses);
    }
}

static void tagged_stack_free(struct tagged_stack *s) {
    if (s) free(s->node), free(s);
}

static struct tagged_stack *tagged_stack_new(size_t n) {
    struct tagged_stack *s = n < NODE_MASK ? block_new(sizeof *s) : NULL;
    if (!s) return NULL;
    s->node = block_new((n ? n : 1) * sizeof *s->node);
    if (!s->node) return tagged_stack_free(s), NULL;
    for (size_t i = 0; i < n; i++) node_link(&s->spare, s->node, &s->node[i]);
    return s;
}

static inline bool tagged_stack_push(struct tagged_stack *s, void *item) {
    struct node *one = node_unlink(&s->spare, s->node);
    if (!one) return false;
    one->item = item;
    node_link(&s->filled, s->node, one);
    return true;
}

static inline void *tagged_stack_pop(struct tagged_stack *s) {
    struct node *one = node_unlink(&s->filled, s->node);
    if (!one) return NULL;
    void *item = one->item;
    node_link(&s->spare, s->node, one);
    return item;
}

/* ---- slots: where an item of a pool lives, and how it is found again ------------------------ */

/* IDLE and IN_STORE are explained at 6 and 7; the plain slots of 8 use IDLE alone. */
enum { IDLE = 1, IN_STORE = 2 };

struct slot {
    alignas(CACHE_LINE) _Atomic uint32_t word; /* who takes IDLE away owns the loan */
    void *item;                                /* read only once the pool is shared */
};

struct table { /* read only once the pool is shared; one whose items change needs more */
    struct slot *slot;
    size_t n;
    struct slot **by_item; /* open addressing, half empty at least */
    size_t mask;
};

static void table_clear(struct table *t) { free(t->slot), free(t->by_item); }

static bool table_init(struct table *t, size_t n) {
    size_t n_cells = power_of_two(8, 2 * n);
    t->n = 0;
    t->mask = n_cells - 1;
    t->slot = block_new((n ? n : 1) * sizeof *t->slot);
    t->by_item = block_new(n_cells * sizeof *t->by_item);
    return t->slot && t->by_item;
}

static inline size_t table_hash(const struct table *t, const void *item) {
    uint64_t mixed = (uint64_t)(uintptr_t)item * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(mixed >> 32) & t->mask;
}

static inline struct slot *table_find(const struct table *t, const void *item) {
    struct slot *slot;
    for (size_t at = table_hash(t, item); (slot = t->by_item[at]); at = (at + 1) & t->mask)
        if (slot->item == item) break;
    return slot;
}

static struct slot *table_add(struct table *t, void *item) {
    struct slot *slot = &t->slot[t->n++];
    size_t at = table_hash(t, item);
    while (t->by_item[at]) at = (at + 1) & t->mask;
    slot->item = item;
    return t->by_item[at] = slot;
}

/* ---- 6 and 7. slot words + per-thread hints, over a store of slots -------------------------- */

/* A slot's word says where it stands:
 *   IDLE | IN_STORE  idle, and its entry is in the store (or the putter is about to push it)
 *   IN_STORE         lent through a hint; the entry was left behind and is pruned when popped
 *   0                lent, no entry
 * IDLE implies IN_STORE, so that "all bits" and "no bits" can be exchanged in unconditionally, and
 * each slot has at most one entry: a store with as many places as slots never overflows. */
enum store { STAMPED_RING, LOCKED_RING };

struct slots { /* read only once the pool is shared; one of the two stores is NULL */
    uint64_t id; /* never reused, so that a hint cannot outlive its pool */
    struct table table;
    struct stamped_ring *stamped;
    struct locked_ring *locked;
};

/* What this thread lent or returned last, newest first from `newest` on, for any pool. */
enum { MOST_HINTS = 4 };
static _Thread_local struct {
    struct {
        uint64_t id;
        size_t index;
    } of[MOST_HINTS];
    unsigned newest;
} hint;

static _Atomic uint64_t last_id; /* pools number themselves from 1; 0 = no hint yet */

ALWAYS_INLINE bool store_push(struct slots *s, enum store store, struct slot *slot) {
    if (store == STAMPED_RING) return stamped_ring_push(s->stamped, slot);
    return locked_ring_push(s->locked, slot);
}

ALWAYS_INLINE struct slot *store_pop(struct slots *s, enum store store) {
    if (store == STAMPED_RING) return stamped_ring_pop(s->stamped);
    return locked_ring_pop_tail(s->locked);
}

static void slots_free(struct slots *s) {
    if (!s) return;
    stamped_ring_free(s->stamped);
    locked_ring_free(s->locked);
    table_clear(&s->table);
    free(s);
}

static struct slots *slots_new(enum store store, size_t n) {
    struct slots *s = block_new(sizeof *s);
    if (!s) return NULL;
    s->id = atomic_fetch_add(&last_id, 1) + 1;
    if (store == STAMPED_RING) s->stamped = stamped_ring_new(n);
    else s->locked = locked_ring_new(n);
    if (!table_init(&s->table, n) || !(s->stamped || s->locked))
        return slots_free(s), NULL;
    return s;
}

/* `hints` is a constant power of two: how many of this thread's hints the pool uses. */
ALWAYS_INLINE struct slot *slots_hinted(const struct slots *s, unsigned at) {
    return hint.of[at].id == s->id ? &s->table.slot[hint.of[at].index] : NULL;
}

ALWAYS_INLINE void slots_hint(const struct slots *s, unsigned hints, const struct slot *slot) {
    unsigned at = hint.newest = (hint.newest + 1) & (hints - 1);
    hint.of[at].id = s->id;
    hint.of[at].index = (size_t)(slot - s->table.slot);
}

ALWAYS_INLINE void *slots_pop(struct slots *s, enum store store, unsigned hints) {
    struct slot *slot;
    for (unsigned i = 0; i < hints; i++) {
        unsigned at = (hint.newest - i) & (hints - 1);
        uint32_t idle = IDLE | IN_STORE;
        slot = slots_hinted(s, at);
        /* relaxed: only saves a failing CAS */
        if (slot && atomic_load_explicit(&slot->word, memory_order_relaxed) == idle &&
            atomic_compare_exchange_strong(&slot->word, &idle, IN_STORE)) {
            hint.newest = at;
            return slot->item;
        }
    }
    while ((slot = store_pop(s, store))) {
        if (atomic_exchange(&slot->word, 0) & IDLE) {
            slots_hint(s, hints, slot);
            return slot->item;
        } /* else lent through a hint: its entry is gone now, its return will push a new one */
    }
    return NULL;
}

ALWAYS_INLINE bool slots_push(struct slots *s, enum store store, unsigned hints, const void *item) {
    struct slot *slot = NULL;
    for (unsigned i = 0; i < hints; i++) {
        unsigned at = (hint.newest - i) & (hints - 1);
        slot = slots_hinted(s, at);
        if (slot && slot->item == item) {
            hint.newest = at;
            break;
        }
        slot = NULL;
    }
    if (!slot) {
        slot = table_find(&s->table, item);
        if (!slot) return false; /* not ours */
        slots_hint(s, hints, slot);
    }
    uint32_t old = atomic_exchange(&slot->word, IDLE | IN_STORE);
    if (old & IDLE) return false; /* was not lent; the word is as it was */
    if (!(old & IN_STORE)) store_push(s, store, slot); /* cannot fail: a place for each slot */
    return true;
}

ALWAYS_INLINE void slots_add(struct slots *s, enum store store, void *item) { /* before sharing */
    table_add(&s->table, item);
    slots_push(s, store, 1, item);
}

/* ---- 8. slots over the plain ring: the caller holds the GIL --------------------------------- */

/* The ring holds exactly the idle slots. What was popped last still stands in the cell behind its
 * tail: nested loans that end in reverse order find their slots there, without the index by item.
 * Relaxed accesses to the word are plain ones: the GIL is the order. */
struct plain_slots {
    struct table table;
    struct ring idle;
};

static void plain_slots_free(struct plain_slots *p) {
    if (p) table_clear(&p->table), free(p->idle.cell), free(p);
}

static struct plain_slots *plain_slots_new(size_t n) {
    struct plain_slots *p = block_new(sizeof *p);
    if (p && (!ring_init(&p->idle, n) || !table_init(&p->table, n))) plain_slots_free(p), p = NULL;
    return p;
}

static inline void *plain_slots_pop(struct plain_slots *p) {
    struct slot *slot = ring_pop_tail(&p->idle);
    if (!slot) return NULL;
    atomic_store_explicit(&slot->word, 0, memory_order_relaxed);
    return slot->item;
}

static inline bool plain_slots_push(struct plain_slots *p, const void *item) {
    struct slot *slot = p->idle.cell[p->idle.tail & p->idle.mask]; /* NULL before the first pop */
    if (!slot || slot->item != item) slot = table_find(&p->table, item);
    if (!slot || atomic_load_explicit(&slot->word, memory_order_relaxed) & IDLE) return false;
    atomic_store_explicit(&slot->word, IDLE, memory_order_relaxed);
    return ring_push(&p->idle, slot); /* never grows: a place for each slot */
}

static void plain_slots_add(struct plain_slots *p, void *item) { /* before sharing */
    table_add(&p->table, item);
    plain_slots_push(p, item);
}

/* ---- a box with one place, to pass an item to another thread -------------------------------- */

struct box {
    alignas(CACHE_LINE) _Atomic(void *) item;
};

static struct box *box_new(void *item) {
    struct box *b = block_new(sizeof *b);
    if (b) atomic_init(&b->item, item);
    return b;
}

static inline void *box_swap(struct box *b, void *item) { return atomic_exchange(&b->item, item); }

#endif
