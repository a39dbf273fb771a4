# What threads of Python code lock and wait with, where a signal handler may raise at any instruction.
#
# The standard library's `with lock:` can be left with the lock held for good: CPython 3.14 runs
# handlers between the return of `__enter__` and the block (CPython's gh-148874), and Condition and
# Event are Python code, with such a gap on every version.  Here whatever takes is one C call, and what
# it has taken goes back with the object that stands for it, which the interpreter drops as it unwinds.

import _thread
import time

cdef extern from *:
    """
    #if PY_VERSION_HEX < 0x030C0000
    #define fp_gc_pause() PyGC_Disable()
    #define fp_gc_resume(was) ((void)((was) && PyGC_Enable()))
    #else
    #define fp_gc_pause() 0
    #define fp_gc_resume(was) ((void)(was))
    #endif
    """
    int fp_gc_pause()
    void fp_gc_resume(int)

cdef object new_rlock = _thread.RLock
cdef object new_lock = _thread.allocate_lock
cdef object monotonic = time.monotonic
cdef double LONGEST = _thread.TIMEOUT_MAX


cdef class Lock:
    """A re-entrant lock.  ``with lock.hold():`` in threads of the pool's own: an exception at whatever
    instruction leaves it free.  ``lock.run(call)`` with a call in C where users call: a signal handler
    that ran under it could wait for what others cannot do meanwhile.

    In a forked child it is another one, and free: a thread that is not there may have held it."""
    cdef object take, drop, owned
    cdef uint64_t forks

    def __cinit__(self):
        lock_renew(self)

    def hold(self):
        """A guard for one ``with`` block."""
        return guard_of(self, True)

    def try_hold(self):
        """The same without waiting, and not re-entrant: ``with lock.try_hold() as held:`` says
        whether it is held now and was not before."""
        return guard_of(self, False)

    def acquire(self):
        """For ``os.register_at_fork`` alone."""
        self.take()

    def release(self):
        """For ``os.register_at_fork`` alone."""
        self.drop()

    @property
    def is_mine(self):
        """Whether the calling thread holds it."""
        return self.forks == fp_forks and self.owned()

    def run(self, call, *args):
        """``call(*args)`` while it is held.  Where ``call`` is C, no handler runs in between, nor does
        a finaliser: before Python 3.12 the collector runs in C, too, wherever something is made."""
        if self.forks != fp_forks:
            lock_renew(self)
        drop = self.drop
        self.take()
        cdef int collects = fp_gc_pause()
        try:
            return call(*args)
        finally:
            fp_gc_resume(collects)
            drop()


cdef int lock_renew(Lock self) except -1:
    lock = new_rlock()
    self.take, self.drop, self.owned = lock.acquire, lock.release, lock._is_owned
    self.forks = fp_forks
    return 0


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class Guard:
    """Made by ``Lock``.  Dropped before the end of its block, it gives the lock back."""
    cdef Lock lock
    cdef object drop  # of what it has taken
    cdef bint waits, held

    def __enter__(self):
        if self.lock.forks != fp_forks:
            lock_renew(self.lock)
        self.drop = self.lock.drop
        if self.waits:
            self.held = self.lock.take()
        elif not self.lock.owned():
            self.held = self.lock.take(False)
        return self.held

    def __exit__(self, kind, error, trace):
        guard_end(self)

    def __dealloc__(self):
        guard_end(self)


cdef Guard guard_of(Lock lock, bint waits):
    cdef Guard guard = Guard.__new__(Guard)
    guard.lock, guard.waits = lock, waits
    return guard


cdef int guard_end(Guard self) except -1:
    if self.held:
        self.held = False
        self.drop()
    return 0


cdef class Once:
    """``take()`` is True for who comes first."""
    cdef fp_lock lock
    cdef bint taken

    def __cinit__(self):
        fp_lock_init(&self.lock)

    def take(self):
        fp_lock_take(&self.lock)
        cdef bint first = not self.taken
        self.taken = True
        fp_lock_drop(&self.lock)
        return first


cdef class Event:
    """As ``threading.Event``, set once; each method is one call."""
    cdef object waker
    cdef bint notify
    cdef fp_lock lock

    def __cinit__(self):
        fp_lock_init(&self.lock)
        self.waker = new_lock()
        self.waker.acquire()

    def is_set(self):
        return self.notify

    def set(self):
        fp_lock_take(&self.lock)
        cdef bint first = not self.notify
        self.notify = True
        fp_lock_drop(&self.lock)
        if first:
            self.waker.release()

    def wait(self, timeout=None):
        """Whether it is set; after at most so many seconds, None: for ever."""
        if not self.notify and self.waker.acquire(True, lock_timeout(timeout)):
            self.waker.release()  # for the next who waits
        return self.notify


cdef class Condition:
    """Waits until something is true.  Takes no lock: whoever makes it true notifies after that, and
    whoever waits looks after it has lined up."""
    cdef set waiting
    cdef fp_lock lock

    def __cinit__(self):
        fp_lock_init(&self.lock)
        self.waiting = set()

    def notify_all(self):
        """Has all who wait look again."""
        cdef set notify = None
        fp_lock_take(&self.lock)
        if self.waiting:
            notify, self.waiting = self.waiting, set()
        fp_lock_drop(&self.lock)
        if notify is not None:
            for waker in notify:
                waker.release()

    def wait_for(self, predicate, timeout=None):
        """What ``predicate()`` says once that is true, or after so many seconds."""
        end = None if timeout is None else monotonic() + timeout
        while True:
            waker = new_lock()
            waker.acquire()
            fp_lock_take(&self.lock)
            self.waiting.add(waker)
            fp_lock_drop(&self.lock)
            try:
                found = predicate()
                left = None if end is None else end - monotonic()
                if found or (left is not None and left <= 0):
                    return found
                waker.acquire(True, lock_timeout(left))
            finally:
                fp_lock_take(&self.lock)
                self.waiting.discard(waker)
                fp_lock_drop(&self.lock)


cdef object lock_timeout(timeout):
    return -1 if timeout is None else min(max(timeout, 0.0), LONGEST)
