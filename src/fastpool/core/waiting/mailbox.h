/* How a waiting task learns that its wait is over: one mailbox per event loop.
 *
 * Whoever ends the wait puts the waiter's record into the mailbox of its loop and writes to the wakeup
 * descriptor that the loop watches, unless it has been rung already: one system call per batch.  That
 * is plain C, so it may be done under the core's lock, in a finaliser, in any thread.  The loop then
 * empties the box and sets the futures.
 *
 * A task that ends the wait of another task of its own loop need not ring: between fp_defer_begin and
 * fp_defer_end the running thread's own box is noted, and emptied at the end, with no lock held.
 */
#ifndef FASTPOOL_MAILBOX_H
#define FASTPOOL_MAILBOX_H

#include "../core.h"

#ifdef _WIN32
#include <winsock2.h>
#else
#include <unistd.h>
#endif

typedef struct fp_mailbox {
    fp_lock lock; /* guards the rest; the innermost of all locks */
    fp_waiter *first, *last;
    int woken;      /* the loop has been notified of what lies here */
    intptr_t wakeup_fd; /* what to write to; -1: the loop is gone */
    FP_SHARED(uintptr_t) thread; /* the loop ran there last, as far as known; writer: the loop */
    void *owner;      /* the Mailbox */
} fp_mailbox;

static _Thread_local int fp_defer_depth;         /* how many fp_defer_begin have not ended */
static _Thread_local fp_mailbox *fp_deferred_box; /* the box to be emptied at the end */
static void (*fp_deliver_deferred)(fp_mailbox *); /* of loop_mailbox.pxi */

/* The mailbox whose loop ran in this thread last.  A guess: nobody looks into it before it is known
 * that its loop runs here now, or, with a GIL, that no mailbox has gone since. */
static _Thread_local struct {
    fp_mailbox *box;
    const void *loop;
    uint64_t gone;
} fp_mailbox_last;
static _Atomic(uint64_t) fp_mailboxes_gone;

static inline fp_mailbox *fp_mailbox_guess(const void *loop) {
    if (fp_mailbox_last.gone != atomic_load_explicit(&fp_mailboxes_gone, memory_order_acquire))
        return NULL;
    return loop == NULL || loop == fp_mailbox_last.loop ? fp_mailbox_last.box : NULL;
}

static inline void fp_mailbox_note(fp_mailbox *box, const void *loop) {
    fp_mailbox_last.box = box;
    fp_mailbox_last.loop = loop;
    fp_mailbox_last.gone = atomic_load(&fp_mailboxes_gone);
}

static void fp_mailbox_init(fp_mailbox *box, intptr_t wakeup_fd) {
    fp_lock_init(&box->lock);
    box->first = box->last = NULL;
    box->woken = 0;
    fp_store(&box->thread, 0, relaxed);
    box->owner = NULL;
    box->wakeup_fd = wakeup_fd;
}

static void fp_mailbox_wake(fp_mailbox *box) {
    uint64_t one = 1;
    if (box->wakeup_fd < 0) return;
#ifdef _WIN32
    (void)send((SOCKET)box->wakeup_fd, (const char *)&one, sizeof one, 0);
#else
    /* a full descriptor wakes as well, so the result does not matter */
    if (write((int)box->wakeup_fd, &one, sizeof one) < 0) return;
#endif
}

static void fp_mailbox_post(fp_mailbox *box, fp_waiter *w) {
    fp_lock_take(&box->lock);
    if (!w->mailed) { /* else it lies here from an earlier notice that its owner has not waited for */
        w->mailed = 1;
        w->mail_next = NULL;
        w->mail_prev = box->last;
        *(box->last ? &box->last->mail_next : &box->first) = w;
        box->last = w;
    }
    if (fp_defer_depth != 0 && fp_load(&box->thread, relaxed) == fp_thread_token() &&
        (fp_deferred_box == NULL || fp_deferred_box == box)) { /* of a second loop: by its descriptor */
        fp_deferred_box = box;
    } else if (!box->woken) {
        box->woken = 1;
        fp_mailbox_wake(box);
    }
    fp_lock_drop(&box->lock);
}

static void fp_mailbox_unlink(fp_mailbox *box, fp_waiter *w) { /* under the lock */
    *(w->mail_prev ? &w->mail_prev->mail_next : &box->first) = w->mail_next;
    *(w->mail_next ? &w->mail_next->mail_prev : &box->last) = w->mail_prev;
    w->mailed = 0;
}

static fp_waiter *fp_mailbox_pop(fp_mailbox *box) {
    fp_lock_take(&box->lock);
    fp_waiter *w = box->first;
    if (w != NULL) fp_mailbox_unlink(box, w);
    fp_lock_drop(&box->lock);
    return w;
}

/* The wait is over another way; nobody posts the record any more. */
static void fp_mailbox_forget(fp_mailbox *box, fp_waiter *w) {
    fp_lock_take(&box->lock);
    if (w->mailed) fp_mailbox_unlink(box, w);
    fp_lock_drop(&box->lock);
}

/* The loop looks now: what comes from here on rings again. */
static void fp_mailbox_opened(fp_mailbox *box) {
    fp_lock_take(&box->lock);
    box->woken = 0;
    fp_lock_drop(&box->lock);
}

static void fp_mailbox_runs_here(fp_mailbox *box) {
    fp_store(&box->thread, fp_thread_token(), relaxed);
}

/* What lies here could not be delivered on the spot. */
static void fp_mailbox_leave(fp_mailbox *box) {
    fp_lock_take(&box->lock);
    box->woken = 1;
    fp_mailbox_wake(box);
    fp_lock_drop(&box->lock);
}

static inline void fp_defer_begin(void) { fp_defer_depth++; }
static inline void fp_defer_end(void) {
    fp_mailbox *box = fp_deferred_box;
    if (--fp_defer_depth == 0 && FP_UNLIKELY(box != NULL)) {
        fp_deferred_box = NULL;
        fp_deliver_deferred(box);
    }
}

static void fp_mailbox_is_gone(void) { atomic_fetch_add(&fp_mailboxes_gone, 1); }

/* Whether the scheduler is to find out about closed loops already.
 * seq_cst: one half of a store-load pair.  A task is in the list of those who wait before it looks
 * here; the scheduler says that it watches no more before it goes through that list. */
static FP_SHARED(int) fp_watched;

static inline int fp_is_watched(void) { return fp_load(&fp_watched, seq_cst); }
static inline void fp_set_watched(int on) { fp_store(&fp_watched, on, seq_cst); }

static void fp_mailbox_close(fp_mailbox *box) {
    fp_lock_take(&box->lock);
    box->wakeup_fd = -1;
    fp_lock_drop(&box->lock);
}

#endif
