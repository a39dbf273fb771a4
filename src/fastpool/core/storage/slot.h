/* A slot: one word of state, and its moves.
 *
 * A slot owns its resource for as long as the resource is open; borrowers get references of their
 * own.  One word holds the slot's whole state, and whoever moves it out of IDLE owns the other
 * fields until they publish the next state:
 *
 *   bits 0-2   state
 *   bit  3     INRING: an entry for this slot is in the ring of idle slots, or on its way there
 *   bit  4     RETIRE: to be closed when it comes back (flush, resize)
 *   bit  5     BORROWED: of a shared resource whose leases take permits: taken out, or looked at, for a
 *              borrower who has one
 *   bits 8-63  generation, one up with every lease and when the slot becomes free: a stale release is
 *              told from the holder's own
 */
#ifndef FASTPOOL_SLOT_H
#define FASTPOOL_SLOT_H

#include "../platform/atomics.h"

enum { FP_FREE_SLOT, FP_CREATING, FP_IDLE, FP_LEASED, FP_CHECKING, FP_CLOSING, FP_STATES };
#define FP_STATE ((uint64_t)7)
#define FP_INRING ((uint64_t)8)
#define FP_RETIRE ((uint64_t)16)
#define FP_BORROWED ((uint64_t)32)
#define FP_GENERATION ((uint64_t)1 << 8)
#define fp_state(word) ((unsigned)((word) & FP_STATE))
#define fp_generation(word) ((word) >> 8)

enum {
    FP_IN_BLOCK = 1, /* of `owner`, which is a multiple of 4: held by a `with` block */
    FP_BY_GET = 2,   /* taken by `get`: only the pool can take it back */
};

typedef struct fp_slot {
    FP_SHARED(uint64_t) word;    /* anyone, by compare-and-swap */
    FP_SHARED(void *) item;      /* writer: who fills the slot; readers: anyone looking for it */
    FP_SHARED(int64_t) stale_at; /* ns; writer: the holder before it publishes IDLE; from then on a
                                    borrower has to have it checked, if there is a check hook */
    FP_SHARED(int64_t) dies_at;  /* ns; end of life, set when filled */
    FP_SHARED(int64_t) since;    /* ns; when last returned, or filled; read by snapshots */
    union {
        FP_SHARED(uintptr_t) owner; /* the borrower's thread or task, with FP_IN_BLOCK or FP_BY_GET;
                                       0 once it is back; of a FREE slot: the next free one */
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

/* Notes whom a LEASED slot was taken out for; nothing if it is in another state. */
static inline void fp_slot_borrow(fp_slot *slot) {
    uint64_t word = fp_load(&slot->word, relaxed);
    while (fp_state(word) == FP_LEASED && !fp_cas(&slot->word, &word, word | FP_BORROWED, acq_rel)) {}
}

/* 1: that is over; 0: it was not so. */
static inline int fp_slot_unborrow(fp_slot *slot) {
    uint64_t word = fp_load(&slot->word, relaxed);
    do {
        if (!(word & FP_BORROWED)) return 0;
    } while (!fp_cas(&slot->word, &word, word & ~FP_BORROWED, acq_rel));
    return 1;
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

#endif
