"""Types of the compiled core: what its pools, leases and queues offer, option by option."""

from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)
from types import ModuleType, TracebackType
from typing import Any, Generic, Literal, NoReturn, ParamSpec, Self, TypeAlias, TypeVar, overload

from ._protocols import AsyncFactory, AsyncKeyedFactory, Factory, KeyedFactory
from .fleet import Budget
from .stats import Holder, KeyedStats, PoolStats, ResourceInfo, SharedStats
from .testing import ManualClock

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_K = TypeVar("_K")
_R = TypeVar("_R")
_P = ParamSpec("_P")
_K_co = TypeVar("_K_co", covariant=True)

_Order: TypeAlias = Literal["lifo", "fifo"]
_Fairness: TypeAlias = Literal["fair", "throughput"]
_DiscardOn: TypeAlias = (
    Literal["broken"]
    | type[BaseException]
    | Collection[type[BaseException] | Literal["broken"]]
    | Callable[[BaseException, _T], bool]
    | None
)

# ---- Queues and pools ---------------------------------------------------------------------------

class Owner(Generic[_T]):
    """Who owns a block: all pools and queues.  Private."""

class Store(Owner[_T]):
    """What the queue methods of Queue, LifoQueue and FastPool have in common.  Private."""

    def qsize(self) -> int:
        """Items in the queue, or idle resources in the pool, at some instant of the call."""

    def empty(self) -> bool:
        """Whether ``qsize()`` is 0."""

    def full(self) -> bool:
        """Whether ``maxsize`` is bounded and reached."""

    @property
    def maxsize(self) -> int:
        """Most items held, or resources open; 0 is no bound.  Assignable: a larger bound lets
        waiting callers in, a smaller one takes effect as items leave."""

    @maxsize.setter
    def maxsize(self, value: int) -> None: ...
    @property
    def queue(self) -> QueueView[_T] | list[_T]:
        """The items, the oldest first: a live view.  In pool use a list of what is idle."""

    @property
    def unfinished_tasks(self) -> int:
        """Items put for which ``task_done`` has not been called yet."""

    def task_done(self) -> None:
        """One item got earlier is dealt with.  ValueError if called more often than items were
        put.  The call for the last one ends every ``join``."""

    def join(self) -> None:
        """Waits until ``task_done`` was called for every item that was put."""

    def shutdown(self, immediate: bool = False) -> None:
        """Puts raise ShutDown from now on, gets do so once it is empty.  ``immediate``: what is
        left is dropped, counted as done, and gets raise at once.  Ends every wait; idempotent."""

    @property
    def is_shutdown(self) -> bool:
        """Whether ``shutdown`` was called."""

class QueueView(Generic[_T]):
    """The items of a queue, the oldest first: what ``queue.queue`` is.  Live, and thread-safe call
    by call.  What is added does not count for ``maxsize``, ``unfinished_tasks`` and ``join``, but
    who waits in ``get`` or ``put`` is served."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...
    def __reversed__(self) -> Iterator[_T]: ...
    def __contains__(self, item: object) -> bool: ...
    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...
    def pop(self, index: int = -1) -> _T:
        """Takes out the item put last, or that at an index; IndexError if there is none."""

    def popleft(self) -> _T:
        """Takes out the oldest item; IndexError if there is none."""

    def append(self, item: _T) -> None:
        """Adds an item as the one put last; ShutDown."""

    def appendleft(self, item: _T) -> None:
        """Adds an item as the oldest; ShutDown."""

    def clear(self) -> None:
        """Takes out, and drops, all that is there now."""

    def copy(self) -> list[_T]:
        """A list of the items: a snapshot."""

class Queue(Store[_T]):
    """Drop-in for ``queue.Queue``: first in, first out.  ``maxsize`` <= 0 is unbounded."""

    def __init__(self, maxsize: int = 0) -> None: ...
    @property
    def queue(self) -> QueueView[_T]:
        """The items, the oldest first: a live view."""

    def get(self, block: bool = True, timeout: float | None = None) -> _T:
        """Removes and returns the next item.  Empty when there is none within ``timeout`` seconds
        (None: for ever), or at once with ``block=False``; ShutDown."""

    def put(self, item: _T, block: bool = True, timeout: float | None = None) -> None:
        """Adds an item.  Full when there is no room within ``timeout`` seconds; ShutDown."""

    def get_nowait(self) -> _T:
        """``get(block=False)``"""

    def put_nowait(self, item: _T, /) -> None:
        """``put(item, block=False)``"""

class LifoQueue(Store[_T]):
    """Drop-in for ``queue.LifoQueue``: last in, first out.  Else as Queue."""

    def __init__(self, maxsize: int = 0) -> None: ...
    @property
    def queue(self) -> QueueView[_T]:
        """The items, the oldest first: a live view."""

    def get(self, block: bool = True, timeout: float | None = None) -> _T:
        """Removes and returns the item put last; see ``Queue.get``."""

    def put(self, item: _T, block: bool = True, timeout: float | None = None) -> None:
        """Adds an item; see ``Queue.put``."""

    def get_nowait(self) -> _T:
        """``get(block=False)``"""

    def put_nowait(self, item: _T, /) -> None:
        """``put(item, block=False)``"""

class FastPool(Store[_T]):
    """A pool for threads and tasks: a queue of ready items, or resources made by a factory."""

    # Queue use: no factory, no items.
    @overload
    def __init__(
        self,
        maxsize: int = 0,
        *,
        # Which item is next: "lifo" as queue.LifoQueue, "fifo" as queue.Queue.
        order: _Order = "lifo",
        # Seconds that get and put wait unless they say otherwise; None: for ever.
        timeout: float | None = None,
        # Most callers that wait in get; one more is PoolOverloaded at once.  None: any number.
        max_waiting: int | None = None,
        # "throughput": newcomers may barge until the head, parked for 1 ms, asks for hand-off;
        # "fair": first come, first served.
        fairness: _Fairness = "throughput",
        # Accepted in both uses; a queue raises the standard library's errors, which name nothing.
        name: str | None = None,
    ) -> None: ...

    # The same with an async factory: hooks may be coroutine functions too, what they make belongs
    # to the event loop that made it, and the pool is for tasks alone.
    @overload
    def __init__(
        self,
        maxsize: int = 10,
        *,
        factory: Callable[[], Coroutine[Any, Any, _T]] | AsyncFactory[_T],
        close: Callable[[_T], object] | None = None,
        check: Callable[[_T], object] | None = None,
        reset: Callable[[_T], object] | None = None,
        min_idle: int | None = 0,
        min_size: int | None = 0,
        max_idle: int | None = None,
        order: _Order = "lifo",
        timeout: float | None = 30,
        create_timeout: float | None = 30,
        hook_timeout: float | None = 5,
        max_creating: int | None = 4,
        check_after: float | None = 0.5,
        keepalive: float | None = None,
        idle_timeout: float | None = 600,
        max_lifetime: float | None = 1800,
        max_uses: int | None = None,
        max_waiting: int | None = None,
        fairness: _Fairness = "fair",
        leak_after: float | None = None,
        discard_on: _DiscardOn[_T] = ...,
        on_create_error: Literal["raise", "wait"] = "raise",
        open: bool = True,
        warn_unclosed: bool = True,
        budget: Budget | None = None,
        name: str | None = None,
        clock: ManualClock | Ticks | None = None,
    ) -> None: ...

    # Pool use: resources are made by the factory when they are wanted.
    @overload
    def __init__(
        self,
        # Hard cap on open resources, until they are really closed; 0: no cap.
        maxsize: int = 10,
        *,
        # Makes one resource, on a worker of the pool; a callable, or an object with create().
        factory: Callable[[], _T] | Factory[_T],
        # Closes a resource; None: the factory's close(r), else the resource's own close().
        close: Callable[[_T], object] | None = None,
        # Health check at borrow: an exception, or a result that is false and not None, closes the
        # resource, and the next one is tried.  None: the factory's check(r), else no check.
        check: Callable[[_T], object] | None = None,
        # Run where a resource is given back; an exception closes it.  None: the factory's reset(r).
        reset: Callable[[_T], object] | None = None,
        # Resources kept idle, opened in the background.
        min_idle: int | None = 0,
        # Resources kept open, whether idle or leased, likewise.
        min_size: int | None = 0,
        # Most resources kept idle, the surplus is closed on return; None: no limit.
        max_idle: int | None = None,
        # Which idle resource is next: a preference.
        order: _Order = "lifo",
        # Seconds for the whole of a get: waiting, creating, checking.  None: for ever, 0: no wait.
        timeout: float | None = 30,
        # Seconds that one call of the factory may take.
        create_timeout: float | None = 30,
        # Seconds that one check may take.
        hook_timeout: float | None = 5,
        # Most calls of the factory at once; None: any number, and the default when maxsize is 0.
        max_creating: int | None = 4,
        # Where the factory runs for a thread that waits: on a worker, or in that very thread.
        create_in: Literal["worker", "caller"] = "worker",
        # What becomes of a caller whose creation failed: it gets the exception, or waits for the
        # next try.
        on_create_error: Literal["raise", "wait"] = "raise",
        # Seconds idle after which a resource is checked before it is lent; 0: every time.
        check_after: float | None = 0.5,
        # Seconds between background checks of idle resources; needs a check hook.
        keepalive: float | None = None,
        # Seconds idle after which a resource is closed.
        idle_timeout: float | None = 600,
        # Seconds after its creation at which a resource is closed, less up to 10 % of jitter.
        max_lifetime: float | None = 1800,
        # Uses after which a resource is closed.
        max_uses: int | None = None,
        # Most callers in the queue; one more is PoolOverloaded at once.  None: any number.
        max_waiting: int | None = None,
        # "fair": first come, first served; "throughput": newcomers may barge for 1 ms.
        fairness: _Fairness = "fair",
        # Seconds after which a lease that is still held is logged with the stack that took it.
        leak_after: float | None = None,
        # Which exceptions that leave a block close the resource: "broken" (the default, see
        # ``fastpool.is_broken``), classes, both in a tuple, or (exc, resource) -> bool.  Classes
        # always add to what is not an Exception.
        discard_on: _DiscardOn[_T] = ...,
        # False: nothing is opened, and no thread started, before ``open()`` or the first use.
        open: bool = True,
        # Whether a ResourceWarning tells of a pool that is collected before it was closed.
        warn_unclosed: bool = True,
        # Permits that several pools and processes share: see fastpool.fleet.  None: maxsize alone.
        budget: Budget | None = None,
        # In errors and logs; None: "pool-N".
        name: str | None = None,
        # Rules ages and intervals in place of real time; for tests.
        clock: ManualClock | Ticks | None = None,
    ) -> None: ...

    # Pool use of a fixed set: nothing is made anew, and nothing is closed for its age by default.
    @overload
    def __init__(
        self,
        # Default: as many as there are items.
        maxsize: int = ...,
        *,
        # Ready resources: different objects, none of them None.
        items: Iterable[_T],
        close: Callable[[_T], object] | None = None,
        check: Callable[[_T], object] | None = None,
        reset: Callable[[_T], object] | None = None,
        max_idle: int | None = None,
        order: _Order = "lifo",
        # Seconds that a get waits; None: for ever.
        timeout: float | None = None,
        hook_timeout: float | None = 5,
        # Most checks at once; None: any number.
        max_creating: int | None = 4,
        check_after: float | None = 0.5,
        keepalive: float | None = None,
        idle_timeout: float | None = None,
        max_uses: int | None = None,
        max_waiting: int | None = None,
        fairness: _Fairness = "fair",
        leak_after: float | None = None,
        discard_on: _DiscardOn[_T] = ...,
        warn_unclosed: bool = True,
        name: str | None = None,
        clock: ManualClock | Ticks | None = None,
    ) -> None: ...
    def get(self, block: bool = True, timeout: float | None = ...) -> _T:
        """Queue use: removes and returns the next item (Empty, ShutDown).

        Pool use: an idle resource, or a new one while fewer than ``maxsize`` are open, else waits;
        at most ``timeout`` seconds for all of it (default: the pool's).  PoolTimeout, PoolClosed,
        PoolOverloaded, PoolDeadlock, or the factory's own exception.  Give it back with ``put`` or
        ``discard``.
        """

    def get_nowait(self) -> _T:
        """``get(timeout=0)``: what is idle, or an exception at once."""

    def put(self, item: _T, block: bool = True, timeout: float | None = ...) -> None:
        """Queue use: adds an item (Full, ShutDown).  Pool use: gives a resource back; ValueError if
        it is not the pool's or not lent out."""

    def put_nowait(self, item: _T, /) -> None:
        """``put(item, block=False)``; the same as ``put`` in pool use."""

    def lease(self, timeout: float | None = ...) -> Lease[_T]:
        """``with pool.lease() as resource:`` - entering takes, the end gives back."""

    def acquire(self, timeout: float | None = ...) -> Lease[_T]:
        """Takes a resource at once and returns its Lease, for holds that no block can express."""

    async def aget(self, timeout: float | None = ...) -> _T:
        """``get`` for a task; cancelled, it takes nothing."""

    async def aput(self, item: _T, timeout: float | None = ...) -> None:
        """Queue use: ``put`` for a task.  TypeError in pool use."""

    async def aacquire(self, timeout: float | None = ...) -> Lease[_T]:
        """``acquire`` for a task."""

    async def aclose(self, timeout: float | None = 5.0) -> bool:
        """``close`` for a task: does not wait for the blocks of the calling task."""

    async def awarm(self, n: int, timeout: float | None = ...) -> int:
        """``warm`` for a task."""

    def discard(self, resource: _T) -> None:
        """Closes a resource that is lent out, in place of ``put``; ValueError as there."""

    def retire(self, resource: _T) -> None:
        """Has a resource closed and not lent again: now if it is idle, else when it comes back.
        ValueError if it is not the pool's."""

    def info(self, resource: _T) -> ResourceInfo:
        """The age of a resource, how often it was lent, and for how long it was not given back."""

    def resize(self, maxsize: int) -> None:
        """A new cap: growing serves waiters at once; when shrinking, surplus idle resources are
        closed now and leased ones when they come back."""

    def flush(self, *, idle_only: bool = False, fail_waiters: bool = False) -> None:
        """Retires every open resource: idle ones now, leased ones on return.  ``idle_only``: those
        that are leased stay.  ``fail_waiters``: who waits now gets PoolInterrupted."""

    def add_listener(self, listener: object) -> None:
        """Has this object told what goes on in the pool, by those of the methods
        ``created(pool, seconds)``, ``closed(pool, reason)``,
        ``acquired_after_wait(pool, seconds)``, ``timed_out(pool, phase, seconds)``,
        ``create_failed(pool, exc)`` and ``used(pool, seconds)`` that it has."""

    def remove_listener(self, listener: object) -> None:
        """Ends that; ValueError if it was not added."""

    def configure(self, **options: Any) -> None:
        """Changes options at run time: those that need not be fixed.  A TypeError or ValueError as
        of the constructor, and nothing is changed."""

    @property
    def options(self) -> dict[str, Any]:
        """The options by name, as the constructor would take them: a copy."""

    def check_idle(self) -> int:
        """Checks everything that is idle now, and waits for that; returns how many were closed, for
        the check or their age.  TypeError without a check hook."""

    async def acheck_idle(self) -> int:
        """``check_idle`` for a task."""

    def suspend(self, *, fail_waiters: bool = False) -> None:
        """Gets wait until ``resume``; returns work as ever.  ``fail_waiters``: who waits already
        gets PoolInterrupted."""

    def resume(self) -> None:
        """Ends ``suspend``."""

    def open(self, wait: bool = False, timeout: float | None = 30.0) -> None:
        """Opens a pool that was made with ``open=False``: starts its threads, and opens in the
        background what the pool keeps open.  ``wait``: until they are open, at most ``timeout``
        seconds.  Idempotent, from any thread; PoolClosed after ``close``."""

    async def aopen(self, wait: bool = False, timeout: float | None = 30.0) -> None:
        """``open`` for a task."""

    def warm(self, n: int, timeout: float | None = ...) -> int:
        """Opens resources until ``n`` are open (``maxsize`` at most) and waits for them; returns
        how many are open.  Raises the factory's exception if one fails."""

    def leases(self) -> list[Holder[_T]]:
        """Who holds what."""

    def stats(self) -> PoolStats:
        """An immutable snapshot."""

    def close(self, timeout: float | None = 5.0) -> bool:
        """Refuses new work, wakes every waiter, closes what is idle, waits up to ``timeout``
        seconds for what is lent, but not to blocks of the calling thread; True when all is
        closed."""

    @property
    def name(self) -> str:
        """The name in errors, logs and metrics."""

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

class Lease(Generic[_T_co]):
    """The right to one resource: made by ``FastPool.lease`` and ``FastPool.acquire``."""

    def __enter__(self) -> _T_co: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    async def __aenter__(self) -> _T_co: ...
    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> Awaitable[None]: ...
    @property
    def resource(self) -> _T_co:
        """The resource, while the lease is held; PoolError before and after."""

    def release(self) -> None:
        """Gives the resource back; once, PoolError after that."""

    def discard(self) -> None:
        """Closes the resource instead of giving it back; once, PoolError after that."""

    def retire(self) -> None:
        """Has the resource closed when it comes back, and not lent again."""

    def info(self) -> ResourceInfo:
        """The age of the resource, how often it was lent, and how long ago it was given back."""

class Connection:
    """A connection of the pool, until ``close()`` or the end of a ``with`` block gives it back.

    What is not named here is the driver's: its methods, and its attributes to read and to assign.
    Cursors are the driver's own; those that are left are closed when the connection goes back.
    Used afterwards, it raises the driver's InterfaceError.  For one thread at a time.  Dropped
    without ``close()``, it is closed for good, with a ResourceWarning.  Made by ``Pool.connect``.
    """

    def __init__(self, pool: object, lease: Lease[Any]) -> None: ...
    @property
    def dbapi_connection(self) -> Any:
        """The driver's connection, for what insists on its class.  Not to be kept."""

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor of the driver's; it is closed at the latest when the connection goes back."""

    def commit(self) -> None:
        """As the driver's."""

    def rollback(self) -> None:
        """As the driver's."""

    def close(self) -> None:
        """Gives it back: cursors are closed, what was not committed is rolled back.  If that fails
        the connection is closed instead, and nothing is raised; so it is in a ``finally``, if the
        exception on its way says that it is broken.  Done again, it does nothing."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Commits, or with an exception rolls back, and gives it back.  A connection that the
        exception says is broken is closed."""

    def __getattr__(self, name: str, /) -> Any: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...

class ConnectionBlocks:
    """What the blocks of one pool have in common: where connections come from, whether each is
    ``reset`` when it comes back, and for how long they were used, in ``usage_ms``.  ``plain``: the
    class of connections whose own blocks end by psycopg's ``commit()``, or None."""

    def __new__(cls, fastpool: FastPool[Any], reset: bool, plain: type[Any] | None) -> Self: ...
    def block(self, pool: object, timeout: float, /) -> ConnectionBlock:
        """A ConnectionBlock, for a connection within so many seconds."""

    def used(self, seconds: float) -> None:
        """Counts a use."""

    @property
    def usage_ms(self) -> float:
        """Milliseconds for which connections were used."""

class ConnectionBlock(Lease[Any]):
    """``with pool.connection() as connection``: lent at its begin; its end commits, or rolls back
    after an exception, and gives the connection back.

    Entered once, by one thread.  Dropped before its end, as with a generator that nobody goes on
    with, it closes the connection, and the pool opens another.
    """

class Kept:
    """In the place of a weak reference to what has none."""

    def __init__(self, what: object) -> None: ...
    def __call__(self) -> Any: ...

class KeyedPool(Owner[_T], Generic[_K, _T]):
    """A pool of resources for each key, under common limits."""

    # With an async factory: hooks may be coroutine functions too, what they make belongs to the
    # event loop that made it, and the pool is for tasks alone.
    @overload
    def __init__(
        self,
        factory: Callable[[_K], Coroutine[Any, Any, _T]] | AsyncKeyedFactory[_K, _T],
        *,
        max_total: int | None = 100,
        max_per_key: int | None = 10,
        max_idle_total: int | None = None,
        max_idle_per_key: int | None = None,
        idle_timeout: float | None = 90,
        close: Callable[[_T], object] | None = None,
        check: Callable[[_T], object] | None = None,
        reset: Callable[[_T], object] | None = None,
        order: _Order = "lifo",
        timeout: float | None = 30,
        create_timeout: float | None = 30,
        hook_timeout: float | None = 5,
        max_creating: int | None = 4,
        check_after: float | None = 0.5,
        keepalive: float | None = None,
        max_lifetime: float | None = 1800,
        max_uses: int | None = None,
        max_waiting: int | None = None,
        leak_after: float | None = None,
        discard_on: _DiscardOn[_T] = ...,
        on_create_error: Literal["raise", "wait"] = "raise",
        warn_unclosed: bool = True,
        budget: Budget | None = None,
        name: str | None = None,
        clock: ManualClock | Ticks | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        # Makes one resource of a key, on a worker of the pool; a callable, or an object with
        # create(key).
        factory: Callable[[_K], _T] | KeyedFactory[_K, _T],
        *,
        # Hard caps on open resources, until they are really closed, in all and of one key; None: no
        # limit.  At the first, what is idle longest of another key is closed for one who waits.
        max_total: int | None = 100,
        max_per_key: int | None = 10,
        # Most kept idle; the surplus is closed on return: in all what was idle longest, of one key
        # what comes back.  None: no limit, 0: none is kept.
        max_idle_total: int | None = None,
        max_idle_per_key: int | None = None,
        # As those of FastPool, for each key.
        idle_timeout: float | None = 90,
        close: Callable[[_T], object] | None = None,
        check: Callable[[_T], object] | None = None,
        reset: Callable[[_T], object] | None = None,
        order: _Order = "lifo",
        timeout: float | None = 30,
        create_timeout: float | None = 30,
        hook_timeout: float | None = 5,
        # Most calls of the factory at once for one key; None: any number.
        max_creating: int | None = 4,
        check_after: float | None = 0.5,
        keepalive: float | None = None,
        max_lifetime: float | None = 1800,
        max_uses: int | None = None,
        # Most callers in the queue of one key; one more is PoolOverloaded at once.
        max_waiting: int | None = None,
        leak_after: float | None = None,
        discard_on: _DiscardOn[_T] = ...,
        on_create_error: Literal["raise", "wait"] = "raise",
        warn_unclosed: bool = True,
        budget: Budget | None = None,
        name: str | None = None,
        clock: ManualClock | Ticks | None = None,
    ) -> None: ...
    def lease(self, key: _K, timeout: float | None = ...) -> KeyedLease[_K, _T]:
        """``with pool.lease(key) as resource:`` - entering takes one of this key, the end gives it
        back.  TypeError at once for a key that cannot be hashed."""

    def acquire(self, key: _K, timeout: float | None = ...) -> KeyedLease[_K, _T]:
        """Takes a resource at once and returns its lease, for holds that no block can express."""

    async def aacquire(self, key: _K, timeout: float | None = ...) -> KeyedLease[_K, _T]:
        """``acquire`` for a task."""

    async def awarm(self, key: _K, n: int, timeout: float | None = ...) -> int:
        """``warm`` for a task."""

    def warm(self, key: _K, n: int, timeout: float | None = ...) -> int:
        """Opens resources of this key until ``n`` are open, ``max_per_key`` at most, and waits for
        them; returns how many of the key are open.  Under a limit over all keys it takes the place
        of what is idle of others.  PoolTimeout, or the factory's exception if one fails."""

    def resize(self, max_total: int | None, /) -> None:
        """A new ``max_total``: what is open beyond it is closed when it is idle, the idle longest
        first, and what is leased when it comes back.  None: no limit."""

    async def aclose(self, timeout: float | None = 5.0) -> bool:
        """``close`` for a task: does not wait for the blocks of the calling task."""

    def flush(self, key: _K = ..., *, idle_only: bool = False, fail_waiters: bool = False) -> None:
        """Retires every open resource, or those of one key: idle ones now, leased ones on
        return.  ``idle_only``, ``fail_waiters``: as in FastPool."""

    def add_listener(self, listener: object) -> None:
        """Has this object told what goes on in the pool, by those of the methods
        ``created(pool, seconds)``, ``closed(pool, reason)``,
        ``acquired_after_wait(pool, seconds)``, ``timed_out(pool, phase, seconds)``,
        ``create_failed(pool, exc)`` and ``used(pool, seconds)`` that it has."""

    def remove_listener(self, listener: object) -> None:
        """Ends that; ValueError if it was not added."""

    def configure(self, **options: Any) -> None:
        """Changes options at run time: those that need not be fixed.  A TypeError or ValueError as
        of the constructor, and nothing is changed."""

    @property
    def options(self) -> dict[str, Any]:
        """The options by name, as the constructor would take them: a copy."""

    def check_idle(self) -> int:
        """Checks everything that is idle now, and waits for that; returns how many were closed, for
        the check or their age.  TypeError without a check hook."""

    async def acheck_idle(self) -> int:
        """``check_idle`` for a task."""

    def suspend(self, *, fail_waiters: bool = False) -> None:
        """Leases wait until ``resume``; returns work as ever.  ``fail_waiters``: who waits already
        gets PoolInterrupted."""

    def resume(self) -> None:
        """Ends ``suspend``."""

    def leases(self) -> list[Holder[_T]]:
        """Who holds what."""

    def stats(self) -> KeyedStats:
        """An immutable snapshot: all keys together, and the sizes of each."""

    def close(self, timeout: float | None = 5.0) -> bool:
        """Refuses new work, wakes every waiter, closes what is idle, waits up to ``timeout``
        seconds for what is lent, but not to blocks of the calling thread; True when all is
        closed."""

    @property
    def name(self) -> str:
        """The name in errors, logs and metrics."""

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

class KeyedLease(Lease[_T_co], Generic[_K_co, _T_co]):
    """The right to one resource of a key: made by ``KeyedPool.lease`` and ``KeyedPool.acquire``."""

    @property
    def key(self) -> _K_co:
        """What the resource is of."""

class SharedPool(Owner[_T]):
    """A pool of resources that many callers use at once."""

    # With an async factory: hooks may be coroutine functions too, what they make belongs to the
    # event loop that made it, and the pool is for tasks alone.
    @overload
    def __init__(
        self,
        factory: Callable[[], Coroutine[Any, Any, _T]] | AsyncFactory[_T],
        *,
        items: int | tuple[int, int | None] = (1, 8),
        slots: int = 50,
        shrink_after: float | None = 60,
        penalty: int = 10,
        penalty_time: float = 5,
        penalize_on: _DiscardOn[_T] = ...,
        drain_timeout: float | None = None,
        abort: Callable[[_T], object] | None = None,
        close: Callable[[_T], object] | None = None,
        check: Callable[[_T], object] | None = None,
        timeout: float | None = 30,
        create_timeout: float | None = 30,
        hook_timeout: float | None = 5,
        max_creating: int | None = 4,
        check_after: float | None = 0.5,
        keepalive: float | None = None,
        idle_timeout: float | None = 600,
        max_lifetime: float | None = 1800,
        max_uses: int | None = None,
        max_waiting: int | None = None,
        fairness: _Fairness = "fair",
        leak_after: float | None = None,
        discard_on: _DiscardOn[_T] = ...,
        on_create_error: Literal["raise", "wait"] = "raise",
        open: bool = True,
        warn_unclosed: bool = True,
        budget: Budget | None = None,
        units: Literal["resources", "slots"] = "resources",
        name: str | None = None,
        clock: ManualClock | Ticks | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        # Makes one resource, on a worker of the pool; a callable, or an object with create().
        factory: Callable[[], _T] | Factory[_T],
        *,
        # (least, most) resources, or one number for both; most None: no cap.  The least are kept
        # open; more are opened when all slots are taken.
        items: int | tuple[int, int | None] = (1, 8),
        # Leases of one resource at most.
        slots: int = 50,
        # Seconds after which a resource is closed without which there was room for all the leases
        # under way; one at a time.  None: never.
        shrink_after: float | None = 60,
        # As how many leases an error counts when the least loaded resource is looked for, and for
        # how many seconds.
        penalty: int = 10,
        penalty_time: float = 5,
        # Exceptions that leave a block and count so; default: TimeoutError.
        penalize_on: _DiscardOn[_T] = ...,
        # Seconds after which abort ends what still uses a resource that takes no more leases; on a
        # thread of the pool.
        drain_timeout: float | None = None,
        abort: Callable[[_T], object] | None = None,
        # As those of FastPool.  The check runs when nobody has used the resource for check_after.
        close: Callable[[_T], object] | None = None,
        check: Callable[[_T], object] | None = None,
        timeout: float | None = 30,
        create_timeout: float | None = 30,
        hook_timeout: float | None = 5,
        max_creating: int | None = 4,
        check_after: float | None = 0.5,
        keepalive: float | None = None,
        idle_timeout: float | None = 600,
        # Then another is opened in its place first, and it is closed when its last lease ends.
        max_lifetime: float | None = 1800,
        max_uses: int | None = None,
        max_waiting: int | None = None,
        fairness: _Fairness = "fair",
        leak_after: float | None = None,
        # Exceptions that leave a block and take the resource out of service; default: OSError but
        # not TimeoutError, and EOFError.
        discard_on: _DiscardOn[_T] = ...,
        on_create_error: Literal["raise", "wait"] = "raise",
        open: bool = True,
        warn_unclosed: bool = True,
        budget: Budget | None = None,
        # What a permit of the budget is: a resource that is open, or a lease under way.
        units: Literal["resources", "slots"] = "resources",
        name: str | None = None,
        clock: ManualClock | Ticks | None = None,
    ) -> None: ...
    def lease(self, timeout: float | None = ...) -> SharedLease[_T]:
        """``with pool.lease() as resource:`` - entering takes one slot of the least loaded
        resource, the end gives it back."""

    def acquire(self, timeout: float | None = ...) -> SharedLease[_T]:
        """Takes a slot at once and returns its lease, for holds that no block can express."""

    def get(self, timeout: float | None = ...) -> _T:
        """The least loaded resource, with one slot of it taken; give it back with ``put``, once."""

    def put(self, resource: _T, /) -> None:
        """Gives back one slot taken by ``get``; ValueError if none is taken."""

    async def aget(self, timeout: float | None = ...) -> _T:
        """``get`` for a task; cancelled, it takes nothing."""

    async def aacquire(self, timeout: float | None = ...) -> SharedLease[_T]:
        """``acquire`` for a task."""

    async def aclose(self, timeout: float | None = 5.0) -> bool:
        """``close`` for a task."""

    async def awarm(self, n: int, timeout: float | None = ...) -> int:
        """``warm`` for a task."""

    def add(self, resource: _T) -> bool:
        """Takes in a resource made elsewhere, as if the factory had made it; False: no free
        capacity."""

    def drain(self, resource: _T) -> None:
        """Takes a resource out of service: no more leases, and closed when the last one ends."""

    def replace(self, resource: _T | None = None) -> None:
        """As ``drain``, but first another one is opened in its place; None: for every resource."""

    def penalize(self, resource: _T) -> None:
        """For ``penalty_time`` seconds it counts as loaded with ``penalty`` more leases."""

    def avoid(self, resource: _T, on: bool = True) -> None:
        """No more leases of it until it is called with False; it stays open."""

    def info(self, resource: _T) -> ResourceInfo:
        """The age of a resource, how often it was lent, and for how long no lease of it ended."""

    def ended(self, resource: _T) -> int:
        """How many leases of this resource have ended so far.  ValueError if it is not the
        pool's."""

    def resize(self, items: int | tuple[int, int | None]) -> None:
        """New numbers of resources: (least, most), or one number for both."""

    def flush(self, *, idle_only: bool = False, fail_waiters: bool = False) -> None:
        """Drains every open resource: those not in use are closed now.  ``idle_only``: those in use
        stay in service.  ``fail_waiters``: who waits now gets PoolInterrupted."""

    def add_listener(self, listener: object) -> None:
        """Has this object told what goes on in the pool, by those of the methods
        ``created(pool, seconds)``, ``closed(pool, reason)``,
        ``acquired_after_wait(pool, seconds)``, ``timed_out(pool, phase, seconds)``,
        ``create_failed(pool, exc)`` and ``used(pool, seconds)`` that it has."""

    def remove_listener(self, listener: object) -> None:
        """Ends that; ValueError if it was not added."""

    def configure(self, **options: Any) -> None:
        """Changes options at run time: those that need not be fixed.  A TypeError or ValueError as
        of the constructor, and nothing is changed."""

    @property
    def options(self) -> dict[str, Any]:
        """The options by name, as the constructor would take them: a copy."""

    def check_idle(self) -> int:
        """Checks everything that is idle now, and waits for that; returns how many were closed, for
        the check or their age.  TypeError without a check hook."""

    async def acheck_idle(self) -> int:
        """``check_idle`` for a task."""

    def suspend(self, *, fail_waiters: bool = False) -> None:
        """Leases wait until ``resume``; returns work as ever.  ``fail_waiters``: who waits already
        gets PoolInterrupted."""

    def resume(self) -> None:
        """Ends ``suspend``."""

    def open(self, wait: bool = False, timeout: float | None = 30.0) -> None:
        """Opens a pool that was made with ``open=False``: starts its threads, and opens in the
        background what the pool keeps open.  ``wait``: until they are open, at most ``timeout``
        seconds.  Idempotent, from any thread; PoolClosed after ``close``."""

    async def aopen(self, wait: bool = False, timeout: float | None = 30.0) -> None:
        """``open`` for a task."""

    def warm(self, n: int, timeout: float | None = ...) -> int:
        """Opens resources until ``n`` are open and waits for them; returns how many are open."""

    def leases(self) -> list[Holder[_T]]:
        """Who holds what, one a lease."""

    def stats(self) -> SharedStats:
        """An immutable snapshot."""

    def close(self, timeout: float | None = 5.0) -> bool:
        """Refuses new work, wakes every waiter, closes what is not in use, waits up to ``timeout``
        seconds for the leases that are under way; True when all is closed."""

    @property
    def items(self) -> tuple[int, int | None]:
        """(least, most) resources; the most is None where there is no cap."""

    @property
    def slots(self) -> int:
        """Leases of one resource at most."""

    @property
    def name(self) -> str:
        """The name in errors, logs and metrics."""

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...

class SharedLease(Generic[_T_co]):
    """The right to one slot: made by ``SharedPool.lease`` and ``SharedPool.acquire``."""

    def __enter__(self) -> _T_co: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    async def __aenter__(self) -> _T_co: ...
    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> Awaitable[None]: ...
    @property
    def resource(self) -> _T_co:
        """The resource, while the lease is held; PoolError before and after."""

    def release(self) -> None:
        """Gives the slot back; once, PoolError after that."""

    def discard(self) -> None:
        """Gives the slot back and takes the resource out of service; once."""

    def penalize(self) -> None:
        """``SharedPool.penalize`` of its resource."""

    def retire(self) -> None:
        """``SharedPool.drain`` of its resource."""

    def info(self) -> ResourceInfo:
        """The age of the resource, how often it was lent, and for how long no lease of it ended."""

# ---- Object caches ------------------------------------------------------------------------------

class ObjectCache(Generic[_T]):
    """Keeps objects that cost something to make for use again, as Go's ``sync.Pool`` does.

    ``new()`` makes an object when none is kept; ``reset(object)`` is called by ``put``, and an
    object for which it raises an Exception is logged and dropped.  For what costs time but no more:
    buffers, encoders, compiled things.  For connections use FastPool: here nothing is ever closed,
    and objects vanish without notice.

    No bound and no size: what nobody asked for during two full garbage collections is dropped, or
    within two minutes without any.  Thread-safe, never blocks, re-entrant; also for tasks, of any
    loop.  A thread gets back what it put last, before what others put.  A forked child has what the
    parent had.
    """

    def __init__(
        self, new: Callable[[], _T], *, reset: Callable[[_T], object] | None = None
    ) -> None: ...
    def get(self) -> _T:
        """An object that was put before, or else a new one.

        Never waits, and fails only if ``new`` raises.  Whose object it was does not matter, and
        neither does the order of the puts.
        """

    def put(self, item: _T | None, /) -> None:
        """Keeps the object for a later ``get``; the caller uses it no more.

        Never refuses: any object will do, None is ignored, and so is the very object that this
        thread put last.  An object that is put twice otherwise is lent to two.
        """

# ---- Limits -------------------------------------------------------------------------------------

class WeightedSemaphore:
    """``size`` units, of which callers take any number at a time: bytes in flight, database
    connections, seats.

    First come, first served, for threads and the tasks of any event loops in one queue.  A request
    that is too big for what is free keeps smaller ones behind it waiting, so it is never starved.
    Any thread or task may give back what another has taken.  In a forked child all of it is free.
    """

    def __init__(
        self, size: int, *, max_waiting: int | None = None, name: str | None = None
    ) -> None:
        """``max_waiting``: one more in the queue than this is PoolOverloaded at once; None: any
        number.
        ``name``: in errors; "semaphore-N" if not given."""

    def acquire(self, n: int = 1, timeout: float | None = None) -> None:
        """Takes ``n`` units, waiting for them in the queue.

        ``timeout``: seconds to wait; None: for ever, 0: not at all.  ValueError at once if ``n`` is
        more than there is; PoolTimeout, PoolClosed, PoolOverloaded.
        """

    async def aacquire(self, n: int = 1, timeout: float | None = None) -> None:
        """``acquire`` for a task: waits without blocking the event loop.  Cancelled, it takes
        nothing."""

    def try_acquire(self, n: int = 1) -> bool:
        """Takes ``n`` units if they are free and nobody waits; says whether it did."""

    def release(self, n: int = 1) -> None:
        """Gives ``n`` units back, which wakes as many at the head of the queue as fit.  ValueError,
        and nothing is changed, if that is more than is taken.  Never waits; may be called by a
        finaliser or a signal handler."""

    def hold(self, n: int = 1, timeout: float | None = None) -> SemaphoreHold:
        """``with semaphore.hold(n):`` or ``async with semaphore.hold(n):`` - entering takes ``n``
        units, the end gives them back.  Takes nothing yet; entered once."""

    def resize(self, size: int) -> None:
        """A new number of units.  Growing serves those who wait at once; when shrinking, what is
        taken stays taken.  ValueError while somebody waits for more units than that."""

    def close(self) -> None:
        """Wakes everybody in the queue with PoolClosed, which later calls raise too.  What is taken
        may still be given back.  Idempotent, from any thread."""

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""

    @property
    def size(self) -> int:
        """Units in all."""

    @property
    def in_use(self) -> int:
        """Units taken at this moment."""

    @property
    def waiting(self) -> int:
        """Callers in the queue at this moment."""

    @property
    def max_waiting(self) -> int | None:
        """Most callers in the queue; None: any number."""

    @property
    def name(self) -> str:
        """The name in errors."""

class SemaphoreHold:
    """Units of a semaphore for the length of a block: made by ``WeightedSemaphore.hold``.

    They are given back once, whoever does it.  Collected while it holds them, it gives them back
    and warns once (ResourceWarning).  In a forked child it does nothing: what it holds is the
    parent's.
    """

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> Awaitable[None]: ...
    @property
    def n(self) -> int:
        """How many units."""

    def release(self) -> None:
        """Gives the units back before the end of the block, which then does nothing more; once,
        PoolError after that."""

# Private, used by _aio/methods.py and fastpool.calls.
def units_hit(hold: SemaphoreHold) -> bool: ...
def units_later(hold: SemaphoreHold) -> Awaitable[None]: ...
def units_keep(hold: SemaphoreHold) -> None: ...
def units_taken(semaphore: WeightedSemaphore, n: int) -> bool: ...
def units_quiet(semaphore: WeightedSemaphore, timeout: float | None) -> SemaphoreHold: ...
def units_join(semaphore: WeightedSemaphore, share: Any) -> None: ...
def units_allow(semaphore: WeightedSemaphore, n: int) -> int: ...
def units_look(semaphore: WeightedSemaphore) -> tuple[int, int]: ...
def units_short(semaphore: WeightedSemaphore) -> bool: ...
def add_semaphore_async_methods(
    semaphore_methods: dict[str, Any], hold_methods: dict[str, Any]
) -> None: ...

# ---- Calls on shared connections: private, used by fastpool.grpc --------------------------------

class CallConnection:
    """A resource of a SharedPool on which calls are made: ``calls[n]`` is that of method ``n``."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    @property
    def calls(self) -> list[Callable[..., Any] | None]: ...
    def set_call(self, number: int, call: Callable[..., Any] | None) -> None: ...

class ClosedFlag:
    """Open until it is shut: one for all the calls of a handle."""

    @property
    def shut(self) -> bool: ...
    @shut.setter
    def shut(self, shut: bool) -> None: ...

class UnaryCall:
    """Passes its arguments on to ``calls[number]`` of the least loaded Carrier."""

    def __init__(
        self,
        pool: SharedPool[Any],
        closed_flag: ClosedFlag,
        number: int,
        method: Any,
        owner: object,
        /,
    ) -> None: ...
    @property
    def method(self) -> Any: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def with_call(self, *args: Any, **kwargs: Any) -> Any: ...
    def future(self, *args: Any, **kwargs: Any) -> Any: ...

def close_nowait(pool: SharedPool[Any]) -> None: ...
def order_by_deadline(pool: SharedPool[Any]) -> None: ...
def acquire_of(pool: SharedPool[_R], resource: _R) -> SharedLease[_R] | None: ...

class AioDispatcher:
    """The connections that one event loop uses for some methods; see ``fastpool.grpc``."""

    @property
    def pool(self) -> SharedPool[Any]: ...
    @property
    def loop(self) -> Any: ...
    queued: bool
    notify_on_end: bool
    @property
    def active(self) -> set[CallSlot]: ...
    def lead(self, pool: SharedPool[Any], loop: object, /) -> None: ...
    def leave(self) -> None: ...
    def take(self) -> CallSlot | None: ...
    def take_of(self, connection: Any) -> CallSlot | None: ...

class CallSlot:
    """One slot of a connection, given back when it is called, once, or collected."""

    @property
    def connection(self) -> Any: ...
    @property
    def call(self) -> Any: ...
    def then(self, after: Callable[[], object], /) -> None: ...
    def __call__(self, *ignored: object) -> None: ...

class AioCall:
    """Passes its arguments on to ``calls[number]`` of the running loop's least loaded Carrier."""

    def __init__(
        self,
        closed_flag: ClosedFlag,
        number: int,
        method: Any,
        wrap: Callable[[Any, Any, Any], Any] | None = None,
        /,
    ) -> None: ...
    @property
    def method(self) -> Any: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

def begin(
    dispatcher: AioDispatcher,
    call_slot: CallSlot,
    number: int,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    /,
) -> Any: ...

# ---- Between the core and its manager: private --------------------------------------------------

_State: TypeAlias = Literal["creating", "idle", "leased", "checking", "closing"]
# index, state, since, dies_at, uses, owner, retire
_Slot: TypeAlias = tuple[int, _State, float, float, int, int, bool]

_Close: TypeAlias = Callable[[int, str], object]  # of a slot, and why
_Taken: TypeAlias = Literal[
    "fresh", "due", "timeout", "closed", "overloaded", "deadlock", "may open", "may open at head"
]

_AnyLease: TypeAlias = Lease[Any] | SharedLease[Any]

class Job:
    """One call of a hook on a worker.  Ended, or given up by whom it was for."""

    result: object
    error: BaseException | None

    def __init__(self, ended: Event | None = None) -> None: ...
    def ask(
        self,
        guard: SlotGuard,
        call: Callable[..., object],
        args: tuple[Any, ...],
        timeout: float | None,
    ) -> bool:
        """Hands the guarded slot and ``call(*args)`` to the scheduler; whether the job has ended in
        time, and the slot is guarded again."""

    def answer(self, core: Core) -> bool:
        """The job has ended; False: it was given up, and the slot is the caller's."""

class QuickReset:
    """A plain reset hook, and how many may be idle."""

    def __init__(self, hook: Callable[[Any], object], most_idle: float) -> None: ...

class Permit(BaseException):
    """Ends the wait of a borrower who may open a resource itself."""

class SlotGuard:
    @property
    def ticket(self) -> int: ...
    @ticket.setter
    def ticket(self, number: int) -> None: ...
    """Owns a slot, or an announced wait, while a caller is on the slow path; ``drop`` undoes it."""

    @property
    def index(self) -> int: ...
    @property
    def use(self) -> int: ...
    def claim(self) -> bool: ...
    def claim_idle(self, core: Core, index: int) -> bool: ...
    def leave(self) -> None: ...
    def condemn(self, why: str) -> None: ...
    def drop(self) -> None: ...
    def move(self) -> SlotGuard: ...
    def receive(self, other: SlotGuard) -> None: ...
    def give(self) -> Any: ...

# ---- For tasks: private -------------------------------------------------------------------------

MISSED: Any
DEFAULT: Any

class Mailbox:
    """Where the waits of one event loop end."""

    @property
    def waits(self) -> set[Wait]: ...
    @property
    def own_time(self) -> bool: ...
    @own_time.setter
    def own_time(self, value: bool) -> None: ...
    def __new__(cls, wakeup_fd: int, loop: object) -> Self: ...
    def open(self) -> None: ...
    def wake(self) -> None: ...
    def forked(self) -> None: ...
    def close(self) -> None: ...

def set_task_switch(
    current: Callable[[Any], object],
    enter: Callable[[Any, Any], None],
    leave: Callable[[Any, Any], None],
) -> None: ...

class HookTask(Coroutine[Any, Any, Any]):
    """One coroutine of a pool's own, for a task of its loop."""

    def __init__(
        self,
        tasks: object,
        work: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        unfinished: Callable[..., object] | None = None,
        after: Callable[..., object] | None = None,
        refused: Callable[..., object] | None = None,
    ) -> None: ...
    @property
    def is_over(self) -> bool: ...
    def __call__(self) -> Any: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...
    def begin_now(self) -> Awaitable[None] | None: ...
    def withdraw(self) -> bool: ...
    def take_over(self, guard: SlotGuard, after: Callable[..., object]) -> bool: ...
    def send(self, value: Any, /) -> Any: ...
    def throw(self, kind: Any, error: Any = None, trace: Any = None, /) -> Any: ...
    def close(self) -> None: ...

class LoopCallback:
    """A call for a loop to make; once more if a signal handler raises in it."""

    def __init__(self, loop: object, call: Callable[[], object]) -> None: ...
    def __call__(self) -> None: ...

async def create_on_loop(creator: Any, attempt: Any) -> None: ...
async def close_on_loop(closing: Any, index: int, why: str, use: int) -> None: ...
async def give_back_on_loop(
    pool: Any, index: int, use: int, error: BaseException | None, discard: bool
) -> None: ...

class Done:
    """An awaitable that is done."""

class Wait(Awaitable[None]):
    """One wait of a task in a queue."""

    @property
    def outcome(self) -> _Taken | None: ...
    def claim(self) -> Any: ...
    def __init__(self, core: Core, mailbox: Mailbox) -> None: ...
    def join_pool(
        self, guard: SlotGuard, task: int, timeout: float | None, *, in_front: bool
    ) -> _Taken | None: ...
    def __await__(self) -> Generator[Any, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: object) -> Any: ...
    def throw(self, kind: Any, error: Any = ..., trace: Any = ...) -> Any: ...
    def close(self) -> None: ...
    def expire(self) -> None: ...
    @property
    def pending(self) -> bool: ...
    def abandon(self) -> None: ...

def forks() -> int: ...
def task() -> int: ...
def slot_guard(core: Core) -> SlotGuard: ...
def asks(pool: Owner[Any], timeout: object) -> tuple[Core, Any, float | None]: ...
def manager(pool: Owner[Any], act: str) -> Any: ...
def set_loops(
    running: Callable[[], object],
    of: Callable[[Any], Mailbox],
    watch_closed: Callable[[], object],
) -> None: ...
def set_watching(on: bool) -> None: ...
def set_patience(ns: int) -> int: ...
def is_watching() -> bool: ...
def current() -> Any: ...
def get_later(pool: Any, timeout: object) -> Wait | None: ...
def put_later(pool: Any, item: object, timeout: object) -> Wait: ...
def is_pool(pool: Owner[Any]) -> bool: ...
def hit(pool: FastPool[Any]) -> Any: ...
def stored(pool: FastPool[Any], item: object) -> bool: ...
def lease_hit(lease: Lease[Any], block: bool) -> Any: ...
def share_lease_hit(lease: SharedLease[Any], block: bool) -> Any: ...
def keyed_lease_hit(lease: KeyedLease[Any, Any], block: bool) -> Any: ...
def add_keyed_async_methods(
    pool_methods: dict[str, Any], lease_methods: dict[str, Any]
) -> None: ...
def shared_hit(pool: SharedPool[Any]) -> Any: ...
def lease_asks(lease: _AnyLease, guard: SlotGuard) -> tuple[Any, _Taken | None, float | None]: ...
def lease_keep(lease: _AnyLease, guard: SlotGuard, block: bool) -> Any: ...
def add_shared_async_methods(
    pool_methods: dict[str, Any], lease_methods: dict[str, Any]
) -> None: ...
def add_async_methods(
    pool_methods: dict[str, Any], lease_methods: dict[str, Any], give_back: Callable[..., Any]
) -> None: ...

# ---- Between the core and its manager -----------------------------------------------------------

class Core:
    """Owns a block; the manager's way to it.  Slots are named by their numbers."""

    def set_queue(
        self, lifo: bool, fair: bool, limit: float, timeout: float | None, max_waiting: float
    ) -> None: ...
    def set_pool(
        self,
        manager: object,
        *,
        lifo: bool,
        fair: bool,
        limit: float,
        timeout: float | None,
        max_waiting: float,
        fresh_for: float,
        timed: bool,
        has_check: bool,
        ask_get: bool,
        ask_put: bool,
        clock: Ticks | None = None,
    ) -> None: ...
    def set_sharing(self, *, slots: int, most_uses: float, penalty: int) -> None: ...
    def has_capacity(self) -> bool: ...
    def penalize(self, index: int, seconds: float) -> None: ...
    def avoid(self, index: int, on: bool) -> None: ...
    def load(self, index: int) -> int: ...
    def peak(self, index: int) -> int: ...
    pins: int
    forgotten: bool
    def drop_manager(self) -> None: ...
    @property
    def manager(self) -> Any: ...
    def now(self) -> float: ...
    def add_held(self, seconds: float) -> None: ...
    def count(self, what: str) -> None: ...
    def count_created(self, seconds: float) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def suspended(self) -> bool: ...
    def close(self, *, wake: bool = True, then: Callable[[], object] | None = None) -> bool: ...
    def suspend(self) -> None: ...
    def resume(self) -> None: ...
    def set_sharded(self) -> None: ...
    def notify_returns(self, on: bool) -> None: ...
    def ask_get(self, on: bool) -> None: ...
    def ask_put(self, on: bool) -> None: ...
    def set_most_idle(self, n: float) -> None: ...
    def listen(self, on: bool) -> None: ...
    def set_span(self, seconds: float) -> None: ...
    def reconfigure(
        self,
        *,
        timeout: float | None,
        max_waiting: float,
        fresh_for: float,
        timed: bool,
        most_idle: float,
        ask_put: bool,
    ) -> None: ...
    def set_limit(self, limit: float) -> None: ...
    def set_allowance(self, n: float) -> int: ...
    def listen_for_demand(self) -> None: ...
    @property
    def at_allowance(self) -> bool: ...
    def resize(self, manager: Any, values: dict[str, int], limit: float) -> None: ...
    def reserve(self) -> int: ...
    def fill(self, index: int, item: object, lifetime: float) -> bool: ...
    def adopt(self, item: object, lifetime: float) -> bool: ...
    def publish(self, index: int, *, used: bool = True, suspect: bool = False) -> bool: ...
    def recycle(self, index: int, most_idle: float, suspect: bool = False) -> str | None: ...
    def resets_overdue(self, most: float) -> int: ...
    def claim(self, index: int, from_: Literal["idle", "leased"] = "idle") -> bool: ...
    def end_idle(self, index: int, close: _Close, why: str) -> bool: ...
    def lend(self, index: int) -> bool: ...
    def suspect(self, index: int) -> None: ...
    def is_suspect(self, index: int) -> bool: ...
    def freshen(self, index: int) -> None: ...
    def retire(self, index: int) -> bool: ...
    def is_ending(self, index: int, use: int) -> bool: ...
    def generation(self, index: int) -> int: ...
    def free(self, index: int, why: str | None = None, generation: int | None = None) -> bool: ...
    def slot(self, index: int) -> _Slot: ...
    def item(self, index: int) -> Any: ...
    def find(self, item: object) -> int: ...
    def mark_retire(self, most: float = ..., *, lent: bool = ...) -> int: ...
    def slots(self) -> list[_Slot]: ...
    def counts(self) -> dict[str, Any]: ...
    def has_idle(self, least: int) -> bool: ...
    def oldest(self) -> tuple[float, int]: ...
    in_flight: int
    @property
    def undelivered(self) -> int: ...
    @property
    def creating(self) -> int: ...
    def in_use(self) -> bool: ...
    def busy(self, holder: int, lent: bool = False) -> int: ...
    @property
    def open(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def callers(self) -> int: ...
    def announce_waiter(self, guard: SlotGuard) -> None: ...
    @property
    def demand(self) -> int: ...
    def take(
        self, guard: SlotGuard, timeout: float | None, *, in_front: bool = False
    ) -> _Taken: ...
    def waits_since(self, skip: int) -> float: ...
    def assign(self) -> int: ...

class Guard:
    """Made by ``Lock``, for one ``with`` block."""

    def __enter__(self) -> bool: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

class Lock:
    """A re-entrant lock: ``with lock.hold():``.  An exception at any instruction leaves it free."""

    def hold(self) -> Guard:
        """A guard for one ``with`` block."""

    def try_hold(self) -> Guard:
        """The same without waiting, and not re-entrant: whether it is held now and was not
        before."""

    def acquire(self) -> None:
        """For ``os.register_at_fork`` alone."""

    def release(self) -> None:
        """For ``os.register_at_fork`` alone."""

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread holds it."""

    def run(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """``call(*args)`` while it is held."""

class Once:
    """``take()`` is True for who comes first."""

    def take(self) -> bool: ...

class Event:
    """As ``threading.Event``, set once; each method is one call."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...

class Condition:
    """Waits until something is true, without a lock."""

    def notify_all(self) -> None:
        """Has all who wait look again."""

    def wait_for(self, predicate: Callable[[], _R], timeout: float | None = None) -> _R:
        """What ``predicate()`` says once that is true, or after so many seconds."""

class Ticks:
    """The memory cell behind a manual clock."""

    def __init__(self, seconds: float = 1e6) -> None: ...
    def advance(self, seconds: float) -> None: ...
    @property
    def seconds(self) -> float: ...

def bind(
    configure_pool: Callable[[Core, Any, dict[str, Any]], tuple[int, str]],
    put_into_inbox: Callable[..., object],
) -> object: ...
def bind_waits(module: ModuleType) -> None: ...
def bind_shared(configure_pool: Callable[[Core, Any, dict[str, Any]], tuple[Any, str]]) -> None: ...
def begin_close(core: Core, index: int, use: int) -> bool: ...
def close_resource(core: Core, index: int, hook: Callable[[Any], object], use: int) -> bool: ...
def close_has_begun(core: Core, index: int, use: int) -> bool: ...
def reserve_in_caller(core: Core, guard: SlotGuard, creator: Any, permit: int | None) -> bool: ...
def create_in_caller(
    core: Core,
    guard: SlotGuard,
    create: Callable[[], object],
    refuse: Callable[[object], NoReturn],
    lifetime: float,
) -> None: ...
def free_in_caller(core: Core, guard: SlotGuard) -> None: ...
def set_permits(core: Core, n: int, *, notify: bool = False) -> int: ...
def lease_counts(core: Core) -> tuple[int, int, int]: ...
def deliver(core: Core, index: int, in_flight: bool) -> bool: ...
def creation_over(core: Core, delivered: bool) -> None: ...
def creating_in_caller(core: Core) -> int: ...
def fail_waiter(core: Core, ticket: int, error: BaseException) -> bool: ...
def fail_waiters(core: Core, make: Callable[[], BaseException]) -> None: ...
def end_item(core: Core, close: _Close, item: object, why: str) -> bool: ...
def end_unused(parts: Collection[tuple[Core, _Close]], why: str) -> None: ...
def assign(thing: object, values: dict[str, Any]) -> None: ...
def bind_registry(enter: Callable[[Any], None]) -> None: ...
def part_semaphore(
    size: int, max_waiting: int | None = None, name: str | None = None
) -> WeightedSemaphore: ...
def bind_cache(configure: Callable[[Any, Any], None], in_use: Callable[[], None]) -> None: ...
def advance_caches() -> tuple[list[Any], bool]: ...
def caches_advanced() -> float: ...
def caches_watched() -> bool: ...
def collected(phase: str, info: dict[str, Any]) -> None: ...
def bind_keyed(
    configure_pool: Callable[[Core, Any, dict[str, Any]], tuple[dict[Any, Core], str]],
) -> None: ...
def end_all(parts: Collection[tuple[Core, _Close]], why: str) -> None: ...
def end_idle(parts: Collection[tuple[Core, _Close]], why: str) -> None: ...
def end_surplus(core: Core, close: _Close) -> None: ...
def end_these(core: Core, close: _Close, slots: list[int], why: str) -> None: ...
def let_go(core: Core) -> None: ...
def managers_of(cores: dict[Any, Core]) -> list[Any]: ...
def oldest_idle(cores: dict[Any, Core], most: int) -> tuple[int, list[tuple[Any, int]]]: ...
def all_held_by(cores: dict[Any, Core], holder: int) -> int: ...

class Counted:
    """What the cores of keys that are forgotten have counted."""

    def add(self, core: Core) -> None: ...
    def add_gone(self, core: Core) -> None: ...
    def and_of(
        self, cores: dict[Any, Core], shared: bool = False
    ) -> tuple[dict[str, Any], list[tuple[Any, tuple[int, int, int, int, int, int, int]]]]: ...

class Taken:
    """Slots that are about to be closed."""

def busy(cores: dict[Any, Core], holder: int, lent: bool = False) -> int: ...
def keep_forever(thing: object) -> None: ...
def set_done(future: Any) -> None: ...
def pin(core: Core, whole: Core) -> Any: ...
def unpin(core: Core) -> bool: ...
def replace_core(cores: dict[Any, Core], key: Any, old: Core, new: Core) -> None: ...
def listen_all(
    whole: Core, cores: dict[Any, Core], listeners: dict[int, Any], key: int, listener: Any
) -> Any: ...
def suspend_all(whole: Core, cores: dict[Any, Core]) -> None: ...
def resume_all(whole: Core, cores: dict[Any, Core]) -> None: ...
def close_all(whole: Core, cores: dict[Any, Core]) -> bool: ...
def promised_capacity(promised: dict[Any, dict[int, float]]) -> int: ...
def announce_for_capacity(arbiter: Any, core: Core, guard: SlotGuard, me: int) -> str | None: ...
def must_yield(arbiter: Any, key_pool: Any, index: int, spare_after: float) -> bool: ...
def promise(arbiter: Any, key_pool: Any, index: int) -> None: ...
def recycle_on_loops(
    cores: dict[Any, Core], core: Core, index: int, most_idle: float, suspect: bool
) -> str | None: ...
def will_go(
    core: Core, reasons: dict[int, str], renewing: dict[int, str], indices: list[int], why: str
) -> int: ...
def has_gone(core: Core, reasons: dict[int, str], renewing: dict[int, str], index: int) -> None: ...
def will_renew(core: Core, renewing: dict[int, str], index: int, why: str) -> bool: ...
def is_renewed(core: Core, renewing: dict[int, str], index: int) -> str | None: ...
def socket_is_silent(fd: int) -> bool: ...
def add_task(group: Any, task: Any, thread: Any, begin: Any, args: Any) -> int: ...
def withdraw_task(group: Any, task: Any) -> None: ...

class Credit:
    """How many more times something may happen before somebody has to look."""

    def begin(self) -> None:
        """Somebody looks."""

    def grant(self, n: int) -> None:
        """What the look has found; less what has happened meanwhile."""

    def spend(self) -> bool:
        """It happens once more; False: somebody has to look."""

def after_fork_in_child() -> list[Any]: ...
