/* Stands in for CPython, so that the slow paths of src/fastpool/core/cpython.h run here as they are.
 *
 * Only what that header uses: locks and mutexes over pthreads, reference counts that are counted,
 * and signals that come at random to threads in a storm.
 */
#ifndef STANDIN_PYTHON_H
#define STANDIN_PYTHON_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define Py_GIL_DISABLED 1

typedef intptr_t Py_ssize_t;
typedef struct {
    _Atomic(long) references;
} PyObject;
#define Py_INCREF(o) ((void)atomic_fetch_add(&(o)->references, 1))
#define Py_DECREF(o) ((void)atomic_fetch_sub(&(o)->references, 1))
static inline void Py_XDECREF(PyObject *o) {
    if (o != NULL) Py_DECREF(o);
}

#define PyMem_RawMalloc malloc
#define PyMem_RawCalloc calloc
#define PyMem_RawFree free

typedef pthread_mutex_t PyMutex; /* all zero is an open one, there and here */
#define PyMutex_Lock pthread_mutex_lock
#define PyMutex_Unlock pthread_mutex_unlock

/* The dice of the running thread; the harness seeds them. */
static _Thread_local uint64_t dice_state = 1;
static inline unsigned dice(unsigned sides) {
    dice_state = dice_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((dice_state >> 33) % sides);
}

/* No thread of the harness runs an event loop. */
typedef struct {
    void *context;
} PyThreadState;
static PyThreadState standin_thread;
static inline PyThreadState *PyThreadState_Get(void) { return &standin_thread; }

/* Signals: in a storm one sleep in four is interrupted, and every other handler raises. */
static _Thread_local int storm;
static inline int PyErr_CheckSignals(void) { return storm && dice(2) ? -1 : 0; }

typedef enum { PY_LOCK_FAILURE, PY_LOCK_ACQUIRED, PY_LOCK_INTR } PyLockStatus;
typedef long long PY_TIMEOUT_T;
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    int held;
} standin_lock;
typedef standin_lock *PyThread_type_lock;
enum { NOWAIT_LOCK, WAIT_LOCK };

static inline PyThread_type_lock PyThread_allocate_lock(void) {
    standin_lock *lock = (standin_lock *)calloc(1, sizeof *lock);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_cond_init(&lock->opened, &attributes);
    pthread_condattr_destroy(&attributes);
    return lock;
}

static inline void PyThread_free_lock(PyThread_type_lock lock) {
    pthread_mutex_destroy(&lock->mutex);
    pthread_cond_destroy(&lock->opened);
    free(lock);
}

static inline PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock lock, PY_TIMEOUT_T us,
                                                       int interruptible) {
    if (interruptible && storm && dice(4) == 0) return PY_LOCK_INTR;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    if (us > 0) {
        until.tv_sec += us / 1000000;
        until.tv_nsec += us % 1000000 * 1000;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    }
    int late = 0;
    pthread_mutex_lock(&lock->mutex);
    while (lock->held && !late)
        late = us < 0 ? pthread_cond_wait(&lock->opened, &lock->mutex)
                      : us == 0 || pthread_cond_timedwait(&lock->opened, &lock->mutex, &until);
    int acquired = !lock->held;
    lock->held = 1;
    pthread_mutex_unlock(&lock->mutex);
    return acquired ? PY_LOCK_ACQUIRED : PY_LOCK_FAILURE;
}
#define PyThread_acquire_lock(lock, wait) PyThread_acquire_lock_timed(lock, (wait) ? -1 : 0, 0)

/* As CPython's own, a lock that is not held cannot be opened: one wake-up too many is an error. */
static inline void PyThread_release_lock(PyThread_type_lock lock) {
    pthread_mutex_lock(&lock->mutex);
    if (!lock->held) abort();
    lock->held = 0;
    pthread_cond_signal(&lock->opened);
    pthread_mutex_unlock(&lock->mutex);
}

#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }

/* The garbage collector is not here; these let its part of the header compile. */
typedef int (*visitproc)(PyObject *, void *);
typedef int (*traverseproc)(PyObject *, visitproc, void *);
typedef int (*inquiry)(PyObject *);
typedef struct {
    traverseproc tp_traverse;
    inquiry tp_clear;
} PyTypeObject;
#define Py_VISIT(o) ((void)(visit), (void)(arg), (void)(o))

#endif
