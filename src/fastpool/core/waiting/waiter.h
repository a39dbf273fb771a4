/* A waiter's record, of a thread or a task, and the queue in which it stands.  Plain C11. */
#ifndef FASTPOOL_WAITER_H
#define FASTPOOL_WAITER_H

#include "../platform/atomics.h"

enum fp_waiter_state {
    FP_WAITING,  /* in the queue; the owner runs or spins */
    FP_PARKED,   /* in the queue; the owner sleeps: a wake-up must follow the next change */
    FP_NOTIFIED, /* in the queue; notified: looks for itself */
    FP_GRANTED,  /* out of the queue; `grant` is the owner's */
    FP_FAILED,   /* out of the queue; `grant` is an exception */
    FP_REFUSED,  /* out of the queue; the pool or queue was closed */
    FP_EXPIRED,  /* out of the queue; its time was over before its owner could say so */
};

typedef struct fp_waiter {
    struct fp_waiter *prev, *next; /* under the lock */
    _Atomic(int) state;            /* all changes but WAITING -> PARKED under the lock */
    void *grant;                   /* slot, item or exception; written before `state` is */
    uint64_t generation;           /* likewise, of a slot: it may be taken from its owner, by a wrong put
                                      or discard, before the owner knows of it */
    void *offer;                   /* a putter's item */
    uint64_t weight;               /* so much of a semaphore is wanted; the owner's, before it joins */
    void *park;                    /* a thread sleeps on this lock */
    struct fp_mailbox *mailbox;    /* a task: of its event loop; NULL: a thread */
    void *future;                  /* a task awaits this; the owner's */
    struct fp_waiter *mail_prev, *mail_next; /* under the mailbox's lock */
    int mailed;                    /* likewise: lies in the mailbox */
    int64_t since;                 /* precise ns; when it joined */
    int64_t until;                 /* likewise; when its time is over; 0: never */
    int64_t rank;                  /* likewise; of a queue by deadline: the lower goes first */
    uint64_t ticket;               /* names this wait for those outside the lock */
    int tried;                     /* a creation has been started for this one */
    int asleep;                    /* owner only: a wake-up has to be consumed */
} fp_waiter;

typedef struct {
    fp_waiter *first, *last;
    size_t count;
} fp_wait_queue;

/* Behind `before`; NULL: in front of all. */
static inline void fp_wait_queue_insert(fp_wait_queue *queue, fp_waiter *w, fp_waiter *before) {
    w->prev = before;
    w->next = before ? before->next : queue->first;
    *(w->prev ? &w->prev->next : &queue->first) = w;
    *(w->next ? &w->next->prev : &queue->last) = w;
    queue->count++;
}

static inline void fp_wait_queue_add(fp_wait_queue *queue, fp_waiter *w, int in_front) {
    fp_wait_queue_insert(queue, w, in_front ? NULL : queue->last);
}

/* By its rank: behind those that are lower or equal.  From the end, which is where one goes whose rank
 * grows with the time, as it does if all have the same timeout. */
static inline void fp_wait_queue_add_ranked(fp_wait_queue *queue, fp_waiter *w) {
    fp_waiter *before = queue->last;
    while (before != NULL && before->rank > w->rank) before = before->prev;
    fp_wait_queue_insert(queue, w, before);
}

static inline void fp_wait_queue_remove(fp_wait_queue *queue, fp_waiter *w) {
    *(w->prev ? &w->prev->next : &queue->first) = w->next;
    *(w->next ? &w->next->prev : &queue->last) = w->prev;
    w->prev = w->next = NULL;
    queue->count--;
}

#endif
