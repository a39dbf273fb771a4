# cython: language_level=3, freethreading_compatible=True, binding=False
# cython: embedsignature=True, embedsignature.format=clinic
# cython: boundscheck=False, wraparound=False, unraisable_tracebacks=False, auto_pickle=False
"""The compiled core: hits are served here, everything else is asked of the pool's manager.

Layers: ``core/storage/`` (items and slots), ``core/core.h`` (the gate and the one locked slow path),
``core/waiting/`` (sleeping and waking), ``core/cpython.h`` (all that knows of Python, fork and the
collector too), the .pxi files and this one (types, references, exceptions).

Why ``get`` and ``put`` stand in each type anew: the interpreter's specialised calls want the exact
type that defines the method; one that is inherited costs twice the time of the whole pair.
``binding=False`` makes methods plain descriptors, and ``always_allow_keywords(False)`` takes the
keyword parsing away where a method has no use for it.

References: a slot owns its resource while it is open, a borrower gets a new reference; a queue owns
its items and hands its own reference over.  No Python runs between claim and publish, nor under the
lock.
"""
cimport cython
from cpython.dict cimport PyDict_Items, PyDict_Values
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject
from cpython.weakref cimport PyWeakref_NewRef
from libc.math cimport INFINITY
from libc.stdint cimport INT64_MAX, int64_t, intptr_t, uint32_t, uint64_t, uintptr_t

import itertools
import sys

include "core/declarations.pxi"

cdef object UNSET = ...  # an argument that was not given; a default that inspect.signature can read
cdef object configure = None  # these two are set by pool/__init__.py; makes the manager of a FastPool
cdef object configure_shared = None  # by shared/__init__.py; likewise of a SharedPool
cdef object configure_keyed = None   # by keyed/__init__.py; likewise of a KeyedPool
cdef object enlist = None     # by _runtime/registry.py; has ``fastpool.pools()`` list what is made
cdef object call_soon = None       # puts a call into the scheduler's inbox; runs no Python code
cdef object is_finalizing = sys.is_finalizing
cdef object generic_alias = type(list[int])


def bind(configure_pool, put_into_inbox):
    """Tells the core who builds managers and where the scheduler's inbox is; called by
    ``fastpool.pool``, in a forked child once more."""
    global configure, call_soon
    configure, call_soon = configure_pool, put_into_inbox
    return UNSET


def bind_shared(configure_pool):
    """The same for SharedPool, by ``fastpool.shared``."""
    global configure_shared
    configure_shared = configure_pool


def bind_keyed(configure_pool):
    """The same for KeyedPool, by ``fastpool.keyed``."""
    global configure_keyed
    configure_keyed = configure_pool


def bind_registry(enter):
    """Tells the core what to call with each pool and semaphore that is made."""
    global enlist
    enlist = enter


# ---- Wrong use: see _misuse.py ------------------------------------------------------------------

cdef object refuse_copy(object thing, str name):
    from fastpool._misuse import uncopied
    raise uncopied(thing, name)


cdef object refuse_option(object thing, str name):
    from fastpool._misuse import unknown_option
    raise unknown_option(type(thing).__name__, type(thing).__name__, name, ("size", "max_waiting", "name"))


cdef object refuse_extra(object thing, str first, tuple given):
    from fastpool._misuse import extra_arguments
    raise extra_arguments(type(thing).__name__, first, given)


# ---- Handles are made by pools alone -------------------------------------------------------------
#
# One that was not would point to no block.  So their types' own ``__new__`` refuses, also for a subclass
# that leaves ``__init__`` out; what this module makes goes by another way.

cdef dict made_by = {}  # type: who makes it


cdef object refuse_new(object kind, object args, object options):
    for base in kind.__mro__:
        if base in made_by:
            raise TypeError(made_by[base])
    raise TypeError(f"{kind.__name__} is not made by hand")


cdef int close_new(dict types) except -1:
    """Closes the ``__new__`` of these types."""
    global fp_refuse_new
    fp_refuse_new = refuse_new
    made_by.update(types)
    for kind in types:
        fp_close_new(<PyTypeObject *>kind)
    return 0


# ---- Waits that stop an event loop: see _blocking.py --------------------------------------------

cdef object blocking = None  # the module


def bind_waits(module):
    """Tells the core what is said of such waits; by ``fastpool.pool``.  Who waits imports nothing:
    importlib may swallow what a signal handler raises."""
    global blocking
    blocking = module


cdef object instead_of_wait(fp_core *c):
    if c.use == FP_QUEUE:
        return blocking.QUEUE
    return blocking.SEMAPHORE if c.use == FP_WEIGHTED else blocking.ACQUIRE


cdef int before_wait(fp_core *c) except -1:
    manager = fp_manager(c, 0)
    blocking.before_wait(None if manager is None else manager.name, instead_of_wait(c))
    return 0


cdef object note_wait(fp_core *c, object error):
    """A wait has been in vain."""
    blocking.note(error, instead_of_wait(c))


cdef tuple LEASE_STATES = ("not entered", "not entered", "held", "held", "released", "discarded")


# The text of a lease: of what it is, how far it has come, and what it holds.
cdef str handle_shown(object handle, str of, fp_lease *l):
    from fastpool._reports import shown
    cdef PyObject *item = fp_lease_resource(l)
    holds = "" if item == NULL else f", {shown(fp_steal(item), 80)}"
    return f"<{type(handle).__name__} of {of}: {LEASE_STATES[fp_lease_state(l)]}{holds}>"


# ---- Time spans -------------------------------------------------------------------------------

cdef int64_t ns_of_timeout(fp_core *c, object timeout) except -1:
    """Nanoseconds of a timeout in seconds; None is for ever."""
    if timeout is None:
        return FP_NEVER
    cdef double seconds
    if not isinstance(timeout, (int, float)):
        try:
            timeout = timeout.__float__()  # numpy's, decimal's and the like
        except (AttributeError, TypeError):
            raise TypeError(
                f"{name_of(c)}timeout must be a number of seconds or None, not {timeout!r}"
            ) from None
    seconds = timeout
    if not seconds >= 0:
        raise ValueError(f"{name_of(c)}'timeout' must be a non-negative number, not {timeout!r}")
    return FP_NEVER if seconds >= 9e9 else <int64_t>(seconds * 1e9)


cdef str name_of(fp_core *c):
    manager = fp_manager(c, 0)
    return "" if manager is None else manager.name + ": "


cdef inline int64_t wait_ns(fp_core *c, object block, object timeout) except -1:
    if block is not True and not block:
        return 0
    return fp_span(c) if timeout is UNSET else ns_of_timeout(c, timeout)


include "core/locks.pxi"
include "core/slot_guard.pxi"
include "core/core.pxi"
include "core/snapshots.pxi"
include "core/closing.pxi"
include "core/creation.pxi"
include "core/creation_in_caller.pxi"
include "core/hook_job.pxi"


cdef class Ticks:
    """The memory cell behind a manual clock: nanoseconds that only tests move."""
    cdef int64_t now

    def __init__(self, double seconds=1e6):
        self.now = <int64_t>(seconds * 1e9)

    def advance(self, double seconds):
        self.now += <int64_t>(seconds * 1e9)

    @property
    def seconds(self):
        return self.now * 1e-9


def assign(thing, dict values):
    """Sets attributes, in one call."""
    for name, value in values.items():
        setattr(thing, name, value)


def keep_forever(thing):
    """Keeps it until the process ends: it is not even finalised then."""
    Py_INCREF(thing)


def after_fork_in_child():
    """Managers of the pools that are live in this child, for ``fastpool.pool`` to start anew."""
    cdef list managers = []
    cdef fp_core *c = fp_live
    while c != NULL:
        if c.manager != NULL and c.use != FP_WEIGHTED:
            managers.append(<object>c.manager)
        c = c.next
    return managers


include "core/queue_view.pxi"
include "core/queue.pxi"
include "core/resource_info.pxi"
include "core/quick_reset.pxi"
include "core/pool_slow_path.pxi"
include "core/pool.pxi"
include "core/lease.pxi"
include "core/loop_mailbox.pxi"
include "core/connection.pxi"
include "core/connection_block.pxi"
include "core/wait.pxi"
include "core/shared_pool.pxi"
include "core/drain_reasons.pxi"
include "core/lease_permits.pxi"
include "core/bulk_close.pxi"
include "core/ended_waits.pxi"
include "core/loop_calls.pxi"
include "core/object_cache.pxi"
include "core/semaphore.pxi"
include "core/worker_tasks.pxi"
include "core/unary_call.pxi"
include "core/async_methods.pxi"
include "core/aio_call.pxi"
include "core/keyed_pool.pxi"
include "core/capacity.pxi"
include "core/sockets.pxi"


def _install():
    import os
    close_new({
        Lease: "leases are made by FastPool.lease() and FastPool.acquire()",
        ConnectionBlock: "blocks are made by the pools of fastpool.contrib.psycopg",
        KeyedLease: "leases are made by KeyedPool.lease() and KeyedPool.acquire()",
        SharedLease: "leases are made by SharedPool.lease() and SharedPool.acquire()",
        SemaphoreHold: "holds are made by WeightedSemaphore.hold()",
        CallSlot: "holds are made by AioDispatcher.take()",
        SlotGuard: "slot guards are made by slot_guard()",
        Guard: "guards are made by Lock.hold()",
        Taken: "made by the core alone",
        QueueView: "a view is what queue is, of a queue",
    })
    global fp_spin_ns
    core = Core()
    fp_install_traverse(<PyTypeObject *>Core, <size_t>(<char *>&core.c - <char *><PyObject *>core))
    fp_install_fork()
    global fp_lend_due, fp_notify_manager, fp_lease_ended
    fp_lend_due, fp_notify_manager, fp_lease_ended = lend_due, notify_manager, lease_ended
    fp_install_next(<PyTypeObject *>Wait, wait_step)
    global fp_before_wait
    fp_before_wait = before_wait
    global fp_ask_budget
    fp_ask_budget = ask_budget
    global fp_share_ended
    fp_share_ended = share_ended
    cdef SharedLease share = SharedLease.__new__(SharedLease)
    fp_install_shared_fast_method(
        <PyTypeObject *>SharedLease, <size_t>(<char *>&share.of - <char *><PyObject *>share)
    )
    cdef UnaryCall call = UnaryCall.__new__(UnaryCall)
    fp_install_vectorcall(
        <PyTypeObject *>UnaryCall,
        <Py_ssize_t>(<char *>&call.vectorcall - <char *><PyObject *>call),
    )
    cdef AioCall aio = AioCall.__new__(AioCall)
    fp_install_vectorcall(
        <PyTypeObject *>AioCall,
        <Py_ssize_t>(<char *>&aio.vectorcall - <char *><PyObject *>aio),
    )
    cdef Store store = Queue.__new__(Queue)
    cdef Lease lease = Lease.__new__(Lease)
    fp_install_fast_methods(
        <PyTypeObject *>Queue, <PyTypeObject *>LifoQueue, <PyTypeObject *>FastPool,
        <PyTypeObject *>Lease, <size_t>(<char *>&store.c - <char *><PyObject *>store),
        <size_t>(<char *>&lease.of - <char *><PyObject *>lease),
    )
    cache = ObjectCache.__new__(ObjectCache)
    fp_install_cache(
        <PyTypeObject *>ObjectCache,
        <size_t>(<char *>&(<ObjectCache>cache).cache - <char *><PyObject *>cache),
    )
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cpus == 1:
        fp_spin_ns = 0  # spinning only keeps the one who would end the wait from running


_install()
