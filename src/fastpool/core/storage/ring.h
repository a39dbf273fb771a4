/* Storage of fastpool: the queue's ring, the slot table and the lock-free ring of idle slots.
 *
 * Plain C11 without Python.h, so that the same text runs in the extension, in the C harness, under
 * ThreadSanitizer and in model checkers.  Two builds from one source:
 *
 *   FP_ATOMIC 1   free-threaded builds and the harness: atomic words, per-thread hints, stamped rings.
 *   FP_ATOMIC 0   builds with the GIL: the same steps as plain loads and stores.  No Python API lies
 *                 between the steps of an operation, so the GIL makes each of them atomic.
 *
 * Sources of the algorithms: the stamped ring is Dmitry Vyukov's bounded MPMC queue with the exact
 * emptiness test of crossbeam's ArrayQueue; slot words found through a thread's own hint first are
 * the idea of HikariCP's ConcurrentBag.
 *
 * No stand-alone fences anywhere: ThreadSanitizer does not model them.
 */
#ifndef FASTPOOL_RING_H
#define FASTPOOL_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef FP_ATOMIC
#define FP_ATOMIC 1
#endif
#ifndef FP_MALLOC /* the includer may count or trace memory */
#define FP_MALLOC(n) malloc(n)
#define FP_FREE(p) free(p)
#endif
#ifndef FP_STEP /* the harness yields here at random, to perturb the schedule */
#define FP_STEP() ((void)0)
#endif
#ifndef FP_PUBLISH_ORDER /* the weakened copy sets this to relaxed, and the sanitizer must catch it */
#define FP_PUBLISH_ORDER memory_order_release
#endif

#define FP_CACHE_LINE 64 /* bytes of a cache line */

#if defined(__GNUC__) || defined(__clang__)
#define FP_LIKELY(x) __builtin_expect(!!(x), 1)
#define FP_COLD __attribute__((noinline, cold))
#define FP_APART __attribute__((noinline)) /* hot, but its registers are not for the caller to save */
#define FP_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define FP_LIKELY(x) (x)
#define FP_COLD
#define FP_APART
#define FP_UNLIKELY(x) (x)
#endif
#if defined(__x86_64__) || defined(__i386__)
#define fp_pause() __builtin_ia32_pause()
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define fp_pause() __asm__ __volatile__("yield")
#elif defined(_MSC_VER) && (defined(_M_X64) || defined(_M_ARM64))
#include <intrin.h>
#if defined(_M_X64)
#define fp_pause() _mm_pause()
#else
#define fp_pause() __yield()
#endif
#else
#define fp_pause() ((void)0)
#endif

#ifdef FASTPOOL_DEBUG
#include <stdio.h>
#define FP_ASSERT(x)                                                                              \
    do {                                                                                          \
        if (!(x)) {                                                                               \
            fprintf(stderr, "fastpool: impossible state: %s (%s:%d)\n", #x, __FILE__, __LINE__);  \
            abort();                                                                              \
        }                                                                                         \
    } while (0)
#else
#define FP_ASSERT(x) ((void)0)
#endif

/* A word that several threads touch.  Orders are named at the place of use. */
#if FP_ATOMIC
#define FP_SHARED(type) _Atomic(type)
#define fp_load(p, order) (FP_STEP(), atomic_load_explicit((p), memory_order_##order))
#define fp_store(p, v, order) (FP_STEP(), atomic_store_explicit((p), (v), memory_order_##order))
#define fp_cas(p, expected, v, order)                                                             \
    (FP_STEP(), atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_##order, \
                                                      memory_order_relaxed))
#else
#define FP_SHARED(type) type
#define fp_load(p, order) (*(p))
#define fp_store(p, v, order) ((void)(*(p) = (v)))
#define fp_cas(p, expected, v, order) (*(p) = (v), 1)
#endif

static inline void *fp_alloc_aligned(size_t bytes, void **raw) {
    *raw = FP_MALLOC(bytes + FP_CACHE_LINE);
    if (*raw == NULL) return NULL;
    void *aligned = (void *)(((uintptr_t)*raw + FP_CACHE_LINE - 1) & ~(uintptr_t)(FP_CACHE_LINE - 1));
    memset(aligned, 0, bytes);
    return aligned;
}

/* ---- The queue's ring: growable, both ends --------------------------------------------------
 *
 * Caller holds the GIL or the core's lock.  LIFO takes at the tail, FIFO at the head; both orders
 * are exact.  The buffer doubles when full and halves when three quarters are empty, so an idle
 * item costs 8 to 16 bytes in a queue that grows.
 */
typedef struct {
    void **cells;
    size_t head;  /* position of the oldest item, below capacity */
    size_t count; /* items held */
    size_t mask;  /* capacity - 1; the capacity is a power of two */
    size_t sparse; /* below so many items a large buffer shrinks */
} fp_deque;

enum { FP_DEQUE_LEAST = 8, FP_DEQUE_LARGE = 64 };

static inline int fp_deque_init(fp_deque *d) {
    d->head = d->count = d->sparse = 0;
    d->mask = FP_DEQUE_LEAST - 1;
    d->cells = (void **)FP_MALLOC(FP_DEQUE_LEAST * sizeof(void *));
    return d->cells == NULL ? -1 : 0;
}

static FP_COLD int fp_deque_resize(fp_deque *d, size_t capacity) {
    void **cells = (void **)FP_MALLOC(capacity * sizeof(void *));
    if (cells == NULL) return -1;
    size_t first = d->mask + 1 - d->head; /* cells from the head to the end of the buffer */
    if (first > d->count) first = d->count;
    memcpy(cells, d->cells + d->head, first * sizeof(void *));
    memcpy(cells + first, d->cells, (d->count - first) * sizeof(void *));
    FP_FREE(d->cells);
    d->cells = cells;
    d->head = 0;
    d->mask = capacity - 1;
    d->sparse = capacity > FP_DEQUE_LARGE ? capacity / 4 : 0;
    return 0;
}

static inline int fp_deque_push(fp_deque *d, void *item) {
    if (FP_UNLIKELY(d->count > d->mask) && fp_deque_resize(d, 2 * (d->mask + 1)) < 0) return -1;
    d->cells[(d->head + d->count) & d->mask] = item;
    d->count++;
    return 0;
}

static inline void fp_deque_shrink(fp_deque *d) {
    /* Failing to shrink loses nothing, so the result is not looked at. */
    if (FP_UNLIKELY(d->count < d->sparse)) (void)fp_deque_resize(d, (d->mask + 1) >> 1);
}

static inline void *fp_deque_pop_tail(fp_deque *d) {
    d->count--;
    return d->cells[(d->head + d->count) & d->mask];
}

static inline void *fp_deque_pop_head(fp_deque *d) {
    void *item = d->cells[d->head];
    d->head = (d->head + 1) & d->mask;
    d->count--;
    return item;
}

static inline void *fp_deque_at(const fp_deque *d, size_t i) {
    return d->cells[(d->head + i) & d->mask];
}

/* ---- Slots ----------------------------------------------------------------------------------
 *
 * A slot owns its resource for as long as the resource is open; borrowers get references of their
 * own.  One word holds the slot's whole state, and whoever moves it out of IDLE owns the other
 * fields until they publish the next state:
 *
 *   bits 0-2   state
 *   bit  3     INRING: an entry for this slot is in the ring of idle slots, or on its way there
 *   bit  4     RETIRE: to be closed when it comes back (flush, resize)
 *   bits 8-63  generation, one up with every lease and when the slot becomes free: a stale release is
 *              told from the holder's own
 */
enum { FP_FREE_SLOT, FP_CREATING, FP_IDLE, FP_LEASED, FP_CHECKING, FP_CLOSING, FP_STATES };
#define FP_STATE ((uint64_t)7)
#define FP_INRING ((uint64_t)8)
#define FP_RETIRE ((uint64_t)16)
#define FP_GENERATION ((uint64_t)1 << 8)
#define fp_state(word) ((unsigned)((word) & FP_STATE))
#define fp_generation(word) ((word) >> 8)

typedef struct fp_slot {
    FP_SHARED(uint64_t) word;    /* anyone, by compare-and-swap */
    FP_SHARED(void *) item;      /* writer: who fills the slot; readers: anyone looking for it */
    FP_SHARED(int64_t) stale_at; /* ns; writer: the holder before it publishes IDLE; from then on a
                                    borrower has to have it checked, if there is a check hook */
    FP_SHARED(int64_t) dies_at;  /* ns; end of life, set when filled */
    FP_SHARED(int64_t) since;    /* ns; when last returned, or filled; read by snapshots */
    union {
        FP_SHARED(uintptr_t) owner; /* the borrower's thread, bit 0: in a `with` block; 0 once it is
                                       back; of a FREE slot: the next free one */
        FP_SHARED(uint64_t) load;   /* of a shared resource: see lease_counts.h; anyone, by CAS */
    };
    union {
        int64_t sampled;            /* ns, precise; start of a use that is measured, else 0; holder */
        FP_SHARED(int64_t) penalized_until; /* of a shared resource: ns; until then it counts as more
                                       loaded than it is; anyone */
        FP_SHARED(int64_t) hook;    /* of a CLOSING slot: FP_IN_HOOK, FP_HOOK_OVER, or neither;
                                       whoever closes it.  Those who pick may still look at it as
                                       `penalized_until`, before they find the load changed. */
    };
    union {
        FP_SHARED(uint32_t) uses;   /* leases of this resource so far; writer: the holder */
        FP_SHARED(uint32_t) peak;   /* of a shared resource: most leases at once since last looked at */
    };
    uint32_t index;              /* own number, fixed */
} fp_slot;

_Static_assert(sizeof(fp_slot) == FP_CACHE_LINE, "a slot is one cache line");

/* Takes the slot if it is idle: IDLE -> LEASED.  `popped` says that the caller has just removed the
 * slot's ring entry, so INRING goes too, taken or not.
 * acquire: pairs with the release in fp_slot_idle; without it the borrower could read a resource or
 * an expiry written after the one it should see. */
static inline int fp_slot_take(fp_slot *slot, int popped) {
    uint64_t word = fp_load(&slot->word, relaxed);
    for (;;) {
        uint64_t next = popped ? word & ~FP_INRING : word;
        int idle = fp_state(word) == FP_IDLE;
        if (idle)
            next = ((next & ~FP_STATE) | FP_LEASED) + FP_GENERATION;
        else if (!popped)
            return 0;
        if (fp_cas(&slot->word, &word, next, acq_rel)) return idle;
    }
}

/* Moves the slot from one state to another for whoever owns it; 0 if it was not in `from`. */
static inline int fp_slot_move(fp_slot *slot, unsigned from, unsigned to) {
    uint64_t word = fp_load(&slot->word, relaxed);
    do {
        if (fp_state(word) != from) return 0;
    } while (!fp_cas(&slot->word, &word, (word & ~FP_STATE) | to, acq_rel));
    return 1;
}

/* The same for whoever had it in this generation, and perhaps has it no more. */
static inline int fp_slot_move_own(fp_slot *slot, uint64_t generation, unsigned from, unsigned to) {
    uint64_t word = fp_load(&slot->word, relaxed);
    do {
        if (fp_state(word) != from || fp_generation(word) != generation) return 0;
    } while (!fp_cas(&slot->word, &word, (word & ~FP_STATE) | to, acq_rel));
    return 1;
}

/* CHECKING -> LEASED of a resource that is lent for the first time, by whoever owns the slot. */
static inline void fp_slot_lend(fp_slot *slot) {
    uint64_t word = fp_load(&slot->word, relaxed);
    while (!fp_cas(&slot->word, &word, ((word & ~FP_STATE) | FP_LEASED) + FP_GENERATION, acq_rel)) {}
}

enum { FP_IN_HOOK = -1, FP_HOOK_OVER = -2 };

static inline int64_t fp_slot_hook(fp_slot *slot) { return fp_load(&slot->hook, relaxed); }
static inline void fp_slot_set_hook(fp_slot *slot, int64_t how_far) {
    fp_store(&slot->hook, how_far, relaxed);
}

/* `stale_at` of a resource that an exception has left: to be checked at its next loan, at any time. */
#define FP_SUSPECT INT64_MIN

static inline void fp_slot_suspect(fp_slot *slot) { fp_store(&slot->stale_at, FP_SUSPECT, relaxed); }
static inline int fp_slot_is_suspect(fp_slot *slot) {
    return fp_load(&slot->stale_at, relaxed) == FP_SUSPECT;
}

/* To be closed when it comes back. */
static inline void fp_slot_retire(fp_slot *slot) {
    uint64_t word = fp_load(&slot->word, relaxed);
    while (!fp_cas(&slot->word, &word, word | FP_RETIRE, acq_rel)) {}
}

/* Publishes the slot as idle.  `word`: as the caller has read it; another lease since then is found
 * out by its generation.  1: the caller must push a ring entry, 0: one is there already, -1: the slot
 * was not in `from`, or is to be retired, or has been lent anew.
 * seq_cst: the store half of the store-load pair with the gate (see core.h). */
static inline int fp_slot_idle(fp_slot *slot, unsigned from, uint64_t word) {
    uint64_t generation = fp_generation(word);
    do {
        if (FP_UNLIKELY((word & (FP_STATE | FP_RETIRE)) != from)) return -1;
        if (FP_UNLIKELY(fp_generation(word) != generation)) return -1;
    } while (!fp_cas(&slot->word, &word, (word & ~FP_STATE) | FP_IDLE | FP_INRING, seq_cst));
    return (word & FP_INRING) == 0;
}

/* ---- The lock-free ring of idle slots -------------------------------------------------------
 *
 * A cell with stamp == position is free for the push of that lap; stamp == position + 1 holds an
 * entry; a pop leaves position + capacity, which frees the cell for the next lap.  Stamps are 64
 * bits wide and never wrap.  A slot has at most one entry (INRING), so a ring with a cell for every
 * slot never overflows.
 */
#if FP_ATOMIC
typedef struct {
    _Atomic(uint64_t) stamp;
    uint32_t index; /* plain: guarded by the stamp */
} fp_cell;

typedef struct {
    _Alignas(FP_CACHE_LINE) _Atomic(uint64_t) head; /* next position to pop */
    _Alignas(FP_CACHE_LINE) _Atomic(uint64_t) tail; /* next position to push */
    _Alignas(FP_CACHE_LINE) fp_cell *cells;
    uint64_t mask;
} fp_ring;

_Static_assert(offsetof(fp_ring, tail) - offsetof(fp_ring, head) >= FP_CACHE_LINE, "cursors apart");

static inline void fp_ring_init(fp_ring *ring, fp_cell *cells, uint64_t capacity) {
    ring->cells = cells;
    ring->mask = capacity - 1;
    for (uint64_t i = 0; i < capacity; i++) atomic_init(&cells[i].stamp, i);
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
}

/* After a lost race: wait a little longer each time, at most 64 pauses. */
static inline unsigned fp_backoff(unsigned round) {
    for (unsigned i = 0; i < (1u << round); i++) fp_pause();
    return round < 6 ? round + 1 : round;
}

static inline void fp_ring_push(fp_ring *ring, uint32_t index) {
    unsigned round = 0;
    uint64_t at = fp_load(&ring->tail, relaxed);
    for (;;) {
        fp_cell *cell = &ring->cells[at & ring->mask];
        /* acquire: pairs with the release of the pop that freed the cell, whose read of `index`
         * must be over before it is overwritten */
        uint64_t stamp = fp_load(&cell->stamp, acquire);
        if (stamp == at && fp_cas(&ring->tail, &at, at + 1, seq_cst)) {
            cell->index = index;
            FP_STEP();
            /* release: pairs with the acquire in pop; weakened, a pop reads an old index */
            atomic_store_explicit(&cell->stamp, at + 1, FP_PUBLISH_ORDER);
            return;
        }
        /* lost the race, or a pop of the last lap has claimed this cell and not yet freed it */
        round = fp_backoff(round);
        at = fp_load(&ring->tail, relaxed);
    }
}

/* -1 when the ring was empty at some instant of the call: the cell is not ready *and* the tail,
 * read after it, stands where the head stood.  Without the second look a push that is half done
 * hides every later entry. */
static inline int64_t fp_ring_pop(fp_ring *ring) {
    unsigned round = 0;
    uint64_t at = fp_load(&ring->head, relaxed);
    for (;;) {
        fp_cell *cell = &ring->cells[at & ring->mask];
        uint64_t stamp = fp_load(&cell->stamp, acquire);
        if (stamp == at + 1) {
            if (fp_cas(&ring->head, &at, at + 1, seq_cst)) {
                uint32_t index = cell->index;
                /* release: pairs with the acquire in push */
                fp_store(&cell->stamp, at + ring->mask + 1, release);
                return index;
            }
        } else if (stamp == at) {
            /* seq_cst: the load half of the store-load pair of a waiter that has registered */
            if (fp_load(&ring->tail, seq_cst) == at) return -1;
        }
        round = fp_backoff(round);
        at = fp_load(&ring->head, relaxed);
    }
}

static inline int fp_ring_seems_empty(fp_ring *ring) {
    return fp_load(&ring->head, seq_cst) == fp_load(&ring->tail, seq_cst);
}
#endif

/* ---- The slot table -------------------------------------------------------------------------
 *
 * Segments of 16, 16, 32, 64, ... slots, added under the core's lock when the free list is empty,
 * so a table for a million resources costs nothing before they are open, and a slot never moves.
 * Index 0-15 is segment 0; index i >= 16 is segment log2(i) - 3.
 */
enum { FP_SEGMENT_LEAST = 16, FP_SEGMENTS = 28 };

typedef struct {
#if FP_ATOMIC
    fp_ring ring; /* idle slots of this segment */
#endif
    fp_slot *slots;
    FP_SHARED(uint32_t) *made; /* when the resource of each slot was: see fp_slot_age in slot_view.h */
    uint32_t size;
    void *raw;
} fp_segment;

typedef struct {
    FP_SHARED(fp_segment *) segments[FP_SEGMENTS]; /* writer: under the lock; readers: anyone */
    FP_SHARED(uint32_t) used;                      /* segments in place, likewise */
    uint32_t free_head;                            /* 1 + index of a free slot, 0 none; lock */
    uint32_t *by_item;                             /* 1 + index by address of the item; lock */
    uint32_t by_item_mask;
    uint32_t by_item_count;
#if !FP_ATOMIC
    fp_deque idle; /* idle slots, oldest return at the head; may hold entries to be pruned */
    int passed_by; /* a slot was taken another way, so there may be such entries */
#endif
} fp_slots;

static inline unsigned fp_log2(uint32_t n) {
#if defined(__GNUC__) || defined(__clang__)
    return 31u - (unsigned)__builtin_clz(n);
#else
    unsigned k = 0;
    while (n >>= 1) k++;
    return k;
#endif
}

static inline fp_slot *fp_slots_at(fp_slots *t, uint32_t index) {
    unsigned k = index < FP_SEGMENT_LEAST ? 0 : fp_log2(index) - 3;
    fp_segment *segment = fp_load(&t->segments[k], acquire);
    return &segment->slots[index & (segment->size - 1)];
}

/* When the resource of a slot was made; written by whoever fills the slot. */
static inline FP_SHARED(uint32_t) *fp_slots_made(fp_slots *t, uint32_t index) {
    unsigned k = index < FP_SEGMENT_LEAST ? 0 : fp_log2(index) - 3;
    fp_segment *segment = fp_load(&t->segments[k], acquire);
    return &segment->made[index & (segment->size - 1)];
}

/* Whether there is a slot of this number. */
static inline int fp_slots_has(fp_slots *t, uint64_t index) {
    uint32_t used = fp_load(&t->used, acquire);
    return used != 0 && index < (uint64_t)FP_SEGMENT_LEAST << (used - 1);
}

static int fp_slots_init(fp_slots *t) {
    memset(t, 0, sizeof *t);
#if !FP_ATOMIC
    return fp_deque_init(&t->idle);
#else
    return 0;
#endif
}

static inline void fp_slots_clear(fp_slots *t) {
    for (uint32_t k = 0; k < FP_SEGMENTS; k++) {
        fp_segment *segment = fp_load(&t->segments[k], relaxed);
        if (segment != NULL) FP_FREE(segment->raw);
    }
    FP_FREE(t->by_item);
#if !FP_ATOMIC
    FP_FREE(t->idle.cells);
#endif
    memset((void *)t, 0, sizeof *t);
}

/* Caller holds the lock.  -1 when memory is short; the table is as it was. */
static int fp_slots_grow(fp_slots *t) {
    uint32_t k = fp_load(&t->used, relaxed);
    if (k == FP_SEGMENTS) return -1;
    uint32_t size = k == 0 ? FP_SEGMENT_LEAST : FP_SEGMENT_LEAST << (k - 1);
    uint32_t first = k == 0 ? 0 : size;
    size_t head = (sizeof(fp_segment) + FP_CACHE_LINE - 1) & ~(size_t)(FP_CACHE_LINE - 1), cells = 0;
#if FP_ATOMIC
    cells = size * sizeof(fp_cell);
#else
    /* room for every slot beforehand: a return never has to allocate */
    size_t capacity = t->idle.mask + 1;
    while (capacity < (size_t)first + size) capacity <<= 1;
    if (capacity > t->idle.mask + 1 && fp_deque_resize(&t->idle, capacity) < 0) return -1;
#endif
    void *raw;
    size_t slots = size * sizeof(fp_slot), made = size * sizeof(uint32_t);
    char *at = (char *)fp_alloc_aligned(head + slots + cells + made, &raw);
    if (at == NULL) return -1;
    fp_segment *segment = (fp_segment *)at;
    segment->slots = (fp_slot *)(at + head);
    segment->made = (FP_SHARED(uint32_t) *)(at + head + slots + cells);
    segment->size = size;
    segment->raw = raw;
#if FP_ATOMIC
    fp_ring_init(&segment->ring, (fp_cell *)(at + head + slots), size);
#endif
    for (uint32_t i = size; i-- > 0;) { /* the free list hands out low numbers first */
        fp_slot *slot = &segment->slots[i];
        slot->index = first + i;
        fp_store(&slot->owner, t->free_head, relaxed);
        t->free_head = slot->index + 1;
    }
    fp_store(&t->segments[k], segment, release); /* pairs with the acquire in fp_slots_at */
    fp_store(&t->used, k + 1, release);
    return 0;
}

/* A free slot as CREATING, or NULL when memory is short.  Caller holds the lock. */
static fp_slot *fp_slots_reserve(fp_slots *t) {
    if (t->free_head == 0 && fp_slots_grow(t) < 0) return NULL;
    fp_slot *slot = fp_slots_at(t, t->free_head - 1);
    t->free_head = (uint32_t)fp_load(&slot->owner, relaxed);
    fp_store(&slot->owner, 0, relaxed);
    fp_store(&slot->uses, 0, relaxed); /* those of the last resource have been counted */
    int moved = fp_slot_move(slot, FP_FREE_SLOT, FP_CREATING);
    FP_ASSERT(moved);
    (void)moved;
    return slot;
}

/* Gives the slot back to the free list.  Caller holds the lock and owns the slot. */
static void fp_slots_release(fp_slots *t, fp_slot *slot) {
    uint64_t word = fp_load(&slot->word, relaxed);
    FP_ASSERT(fp_state(word) == FP_CREATING || fp_state(word) == FP_CLOSING);
    fp_store(&slot->item, NULL, relaxed);
    fp_store(&slot->owner, t->free_head, relaxed);
    /* INRING stays: an old entry may still lie in the ring, and is pruned or reused later */
    /* a new generation: whoever still thinks that the slot is theirs finds out */
    while (!fp_cas(&slot->word, &word, (word & ~(FP_STATE | FP_RETIRE)) + FP_GENERATION, acq_rel)) {
    }
    t->free_head = slot->index + 1;
}

/* Pushes an entry for a slot whose INRING bit the caller has just set. */
static inline void fp_idle_push(fp_slots *t, fp_slot *slot) {
#if FP_ATOMIC
    uint32_t k = slot->index < FP_SEGMENT_LEAST ? 0 : fp_log2(slot->index) - 3;
    fp_ring_push(&fp_load(&t->segments[k], acquire)->ring, slot->index);
#else
    fp_deque *d = &t->idle;
    FP_ASSERT(d->count <= d->mask);
    d->cells[(d->head + d->count) & d->mask] = slot;
    d->count++;
#endif
}

/* Takes an idle slot as LEASED, pruning entries of slots that were taken another way. */
static inline fp_slot *fp_idle_take(fp_slots *t, int lifo) {
#if FP_ATOMIC
    (void)lifo;
    uint32_t used = fp_load(&t->used, acquire);
    for (uint32_t k = 0; k < used; k++) {
        fp_segment *segment = fp_load(&t->segments[k], acquire);
        int64_t index;
        while ((index = fp_ring_pop(&segment->ring)) >= 0) {
            fp_slot *slot = &segment->slots[index & (segment->size - 1)];
            if (fp_slot_take(slot, 1)) return slot;
        }
    }
    return NULL;
#else
    while (FP_LIKELY(t->idle.count != 0)) {
        fp_slot *slot =
            (fp_slot *)(lifo ? fp_deque_pop_tail(&t->idle) : fp_deque_pop_head(&t->idle));
        if (FP_LIKELY(fp_slot_take(slot, 1))) return slot;
    }
    return NULL;
#endif
}

#if FP_ATOMIC
/* All slots are free, and their memory waits for the next pool, which is to behave as in new memory:
 * no old entry in a ring, and low numbers first again. */
static inline void fp_slots_renew(fp_slots *t) {
    fp_slot *idle = fp_idle_take(t, 1);
    FP_ASSERT(idle == NULL);
    (void)idle;
    t->free_head = 0;
    for (uint32_t k = fp_load(&t->used, relaxed); k-- > 0;) {
        fp_segment *segment = fp_load(&t->segments[k], relaxed);
        for (uint32_t i = segment->size; i-- > 0;) {
            fp_store(&segment->slots[i].owner, t->free_head, relaxed);
            t->free_head = segment->slots[i].index + 1;
        }
    }
}
#endif

/* An idle slot as LEASED, its entry left where it is; 0: it was not idle. */
static inline int fp_idle_pick(fp_slots *t, fp_slot *slot) {
#if FP_ATOMIC
    (void)t;
#else
    t->passed_by = 1;
#endif
    return fp_slot_take(slot, 0);
}

/* How many entries there are: no fewer than idle slots.  Exact where that costs nothing: entries to be
 * pruned are pruned once.  With the GIL or the lock. */
static size_t fp_idle_entries(fp_slots *t) {
    size_t n = 0;
#if FP_ATOMIC
    uint32_t used = fp_load(&t->used, acquire);
    for (uint32_t k = 0; k < used; k++) {
        fp_ring *ring = &fp_load(&t->segments[k], acquire)->ring;
        n += (size_t)(fp_load(&ring->tail, seq_cst) - fp_load(&ring->head, seq_cst));
    }
#else
    fp_deque *d = &t->idle;
    if (t->passed_by) {
        for (size_t i = 0; i < d->count; i++) {
            fp_slot *slot = (fp_slot *)fp_deque_at(d, i);
            if (fp_state(slot->word) == FP_IDLE)
                d->cells[(d->head + n++) & d->mask] = slot;
            else
                slot->word &= ~FP_INRING;
        }
        d->count = n;
        t->passed_by = 0;
    }
    n = d->count;
#endif
    return n;
}

/* Whether a look for idle slots is worth while; may say yes for entries to be pruned. */
static inline int fp_idle_likely(fp_slots *t) {
#if FP_ATOMIC
    uint32_t used = fp_load(&t->used, acquire);
    for (uint32_t k = 0; k < used; k++)
        if (!fp_ring_seems_empty(&fp_load(&t->segments[k], acquire)->ring)) return 1;
    return 0;
#else
    return t->idle.count != 0;
#endif
}

/* ---- From a resource to its slot: open addressing on the address; caller holds the lock ------ */
static inline uint32_t fp_address_hash(const void *item) {
    return (uint32_t)(((uint64_t)(uintptr_t)item >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

static fp_slot *fp_slots_find(fp_slots *t, const void *item) {
    if (t->by_item == NULL) return NULL;
    for (uint32_t at = fp_address_hash(item);; at++) {
        uint32_t entry = t->by_item[at & t->by_item_mask];
        if (entry == 0) return NULL;
        fp_slot *slot = fp_slots_at(t, entry - 1);
        if (fp_load(&slot->item, relaxed) == item) return slot;
    }
}

static void fp_by_item_put(fp_slots *t, const void *item, uint32_t entry) {
    uint32_t at = fp_address_hash(item);
    while (t->by_item[at & t->by_item_mask] != 0) at++;
    t->by_item[at & t->by_item_mask] = entry;
}

/* Notes whose slot the item is in.  -1 when memory is short. */
static int fp_slots_note(fp_slots *t, fp_slot *slot, void *item) {
    if (t->by_item == NULL || 4 * (t->by_item_count + 1) > 3 * (t->by_item_mask + 1)) {
        uint32_t capacity = t->by_item == NULL ? 32 : 2 * (t->by_item_mask + 1);
        uint32_t old = t->by_item == NULL ? 0 : t->by_item_mask + 1, *was = t->by_item;
        uint32_t *table = (uint32_t *)FP_MALLOC(capacity * sizeof(uint32_t));
        if (table == NULL) return -1;
        memset(table, 0, capacity * sizeof(uint32_t));
        t->by_item = table;
        t->by_item_mask = capacity - 1;
        for (uint32_t i = 0; i < old; i++)
            if (was[i] != 0)
                fp_by_item_put(t, fp_load(&fp_slots_at(t, was[i] - 1)->item, relaxed), was[i]);
        FP_FREE(was);
    }
    fp_store(&slot->item, item, release);
    fp_by_item_put(t, item, slot->index + 1);
    t->by_item_count++;
    return 0;
}

/* Forgets it: entries behind the gap move up, so that no search stops short at the gap. */
static void fp_slots_forget(fp_slots *t, fp_slot *slot) {
    const void *item = fp_load(&slot->item, relaxed);
    if (item == NULL || t->by_item == NULL) return;
    uint32_t mask = t->by_item_mask, gap = fp_address_hash(item) & mask;
    while (t->by_item[gap] != slot->index + 1) {
        if (t->by_item[gap] == 0) return;
        gap = (gap + 1) & mask;
    }
    for (uint32_t at = (gap + 1) & mask; t->by_item[at] != 0; at = (at + 1) & mask) {
        const void *other = fp_load(&fp_slots_at(t, t->by_item[at] - 1)->item, relaxed);
        uint32_t home = fp_address_hash(other) & mask;
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            t->by_item[gap] = t->by_item[at];
            gap = at;
        }
    }
    t->by_item[gap] = 0;
    t->by_item_count--;
}

#endif
