/* The slot table: slots by index, idle ones, and from a resource to its slot.  That a slot word is
 * found through a thread's own hint first is the idea of HikariCP's ConcurrentBag.
 *
 * Segments of 16, 16, 32, 64, ... slots, added under the core's lock when the free list is empty,
 * so a table for a million resources costs nothing before they are open, and a slot never moves.
 * Index 0-15 is segment 0; index i >= 16 is segment log2(i) - 3.
 */
#ifndef FASTPOOL_SLOT_TABLE_H
#define FASTPOOL_SLOT_TABLE_H

#include "deque.h"
#include "ring.h"

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
