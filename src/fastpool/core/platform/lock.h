/* The lock of the slow path, memory, and the running thread's name: what CPython gives. */
#ifndef FASTPOOL_LOCK_H
#define FASTPOOL_LOCK_H

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

/* Names the running thread, as threading.get_ident() does; a multiple of 4: a slot's owner has two
 * bits more. */
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

#endif
