"""Wrong use: the message says what was given and what to do instead."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from fastpool import (
    FastPool,
    KeyedPool,
    ObjectCache,
    SharedPool,
    TaskPool,
    WeightedSemaphore,
    WorkerPool,
    _core,
)
from fastpool._misuse import ADVICE, RENAMED
from fastpool.pool._options import NAMES
from fastpool.queue import LifoQueue, Queue

KINDS: dict[str, Callable[..., Any]] = {
    "FastPool": lambda **options: FastPool(factory=object, **options),
    "KeyedPool": lambda **options: KeyedPool(lambda key: object(), **options),
    "SharedPool": lambda **options: SharedPool(object, **options),
}


class Connection:
    """A resource."""


class Rude:
    """A resource whose repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def says(error: type[Exception], call: Callable[[], Any], *words: str) -> None:
    """The call raises `error`, and its text has all the words."""
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value), str(caught.value)


class TestConstructors:
    @pytest.mark.parametrize(
        ("call", "cure"),
        [
            (lambda: FastPool(4, Connection), "FastPool(4, factory=Connection)"),
            (lambda: FastPool(Connection, 4), "FastPool(4, factory=Connection)"),
            (lambda: FastPool(4, 2, 1), "FastPool(4, factory="),
            (lambda: FastPool(Connection), "factory="),
            (lambda: FastPool(items=5), "maxsize="),
            (lambda: KeyedPool(), "KeyedPool(connect)"),
            (lambda: KeyedPool(4, Connection), "KeyedPool(Connection, "),
            (lambda: SharedPool(), "SharedPool(connect)"),
            (lambda: SharedPool(4, Connection), "SharedPool(Connection, "),
            (lambda: WeightedSemaphore(), "size"),
            (lambda: WeightedSemaphore(3, 4), "WeightedSemaphore(3, name="),
            (lambda: WeightedSemaphore(value=3), "did you mean 'size'?"),
            (lambda: ObjectCache(), "new"),
            (lambda: ObjectCache(list, list.clear), "ObjectCache(list, reset="),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_arguments_in_the_wrong_place(self, call: Callable[[], Any], cure: str) -> None:
        """What is missing, or has to be named, is named."""
        says(TypeError, call, cure)

    def test_a_resource_is_no_factory(self) -> None:
        """The function is wanted, not what it returns."""
        says(TypeError, lambda: FastPool(4, factory=Connection()), "function itself")  # type: ignore[call-overload]

    def test_seconds_are_no_number_of_resources(self) -> None:
        """``max_idle`` is one of psycopg_pool too, and there it is a time."""
        says(TypeError, lambda: FastPool(factory=object, max_idle=600.0), "idle_timeout")  # type: ignore[call-overload]


class TestForeignOptions:
    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("max_size", "maxsize"),
            ("pool_size", "maxsize"),
            ("pool_recycle", "max_lifetime"),
            ("pool_timeout", "timeout"),
            ("creator", "factory"),
            ("max_connections", "maxsize"),
            ("health_check_interval", "keepalive"),
            ("max_queries", "max_uses"),
            ("max_inactive_connection_lifetime", "idle_timeout"),
            ("maxusage", "max_uses"),
            ("mincached", "min_idle"),
            ("maximumPoolSize", "maxsize"),
            ("minimumIdle", "min_idle"),
            ("maxLifetime", "max_lifetime"),
            ("idleTimeout", "idle_timeout"),
            ("leakDetectionThreshold", "leak_after"),
            ("poolName", "name"),
            ("maxPoolSize", "maxsize"),
            ("MaxOpenConns", "maxsize"),
        ],
    )
    def test_another_pools_word_for_an_option(self, theirs: str, ours: str) -> None:
        """It is refused with our name of the same thing."""
        makers: Any = FastPool
        says(TypeError, lambda: makers(**{theirs: 3}), theirs, f"did you mean {ours!r}")

    @pytest.mark.parametrize("theirs", RENAMED)
    def test_every_renamed_option_is_one_of_ours(self, theirs: str) -> None:
        """The table names nothing that is not there."""
        assert RENAMED[theirs] in {"maxsize", "size", *NAMES}
        assert theirs == theirs.lower().replace("_", "") and theirs not in ADVICE

    @pytest.mark.parametrize(
        ("theirs", "words"),
        [("max_overflow", "max_idle="), ("pool_pre_ping", "check="), ("conninfo", "factory")],
    )
    def test_an_option_without_a_twin_is_answered_by_advice(self, theirs: str, words: str) -> None:
        """Where one word of ours would not do, a sentence does."""
        makers: Any = FastPool
        says(TypeError, lambda: makers(**{theirs: 3}), theirs, words)

    @pytest.mark.parametrize("theirs", ["max_size", "pool_size", "max_connections", "maxsize"])
    def test_pools_of_other_kinds_answer_in_their_own_words(self, theirs: str) -> None:
        """KeyedPool and SharedPool have no maxsize, and say what they have."""
        says(TypeError, lambda: KINDS["KeyedPool"](**{theirs: 3}), "max_per_key and max_total")
        says(TypeError, lambda: KINDS["SharedPool"](**{theirs: 3}), "items=(least, most)")

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_slip_of_the_pen(self, kind: str) -> None:
        """What is nobody's word is compared with ours, and the kind named is the right one."""
        says(TypeError, lambda: KINDS[kind](max_live_time=3), f"{kind} has no option", "lifetime'?")
        says(TypeError, lambda: KINDS[kind](zzz=3), f"{kind} has no option 'zzz'. Options: ")


class TestLeases:
    @pytest.mark.parametrize("act", ["put", "discard"])
    def test_a_lease_is_not_its_resource(self, act: str) -> None:
        """It is given back by itself."""
        with FastPool(1, factory=Connection, name="db") as pool:
            lease: Any = pool.acquire()
            how = "lease.release()" if act == "put" else "lease.discard()"
            says(ValueError, lambda: getattr(pool, act)(lease), "db: ", how)
            lease.release()
            pool.put(pool.get())

    def test_a_shared_lease_is_not_its_resource(self) -> None:
        """Likewise."""
        with SharedPool(Connection, name="db") as pool:
            lease: Any = pool.acquire()
            says(ValueError, lambda: pool.put(lease), "db: ", "lease.release()")
            lease.release()

    def test_what_was_not_awaited_is_not_a_resource(self) -> None:
        """A coroutine is named as one."""
        with FastPool(1, factory=Connection, name="db") as pool:
            coroutine: Any = pool.aget()
            says(ValueError, lambda: pool.put(coroutine), "db: ", "await it")
            coroutine.close()

    @pytest.mark.parametrize("name", ["execute", "cursor", "close", "send", "request"])
    def test_a_lease_has_not_what_its_resource_has(self, name: str) -> None:
        """Asked for it, it says where the resource is; ``hasattr`` says no."""
        leases: list[Any] = []
        with FastPool(1, factory=Connection) as pool, SharedPool(Connection) as shared:
            keyed = KeyedPool(lambda key: Connection())
            leases += pool.lease(), shared.lease(), keyed.lease("a"), pool.acquire()
            for lease in leases:
                ask = partial(getattr, lease, name)
                says(AttributeError, ask, name, "`with pool.lease() as")
                assert not hasattr(lease, name) and not hasattr(type(lease), name)
                assert name not in dir(lease) and "release" in dir(lease)
            leases[-1].release()
            keyed.close()

    def test_a_repr_names_the_pool_and_the_resource(self) -> None:
        """As far as there is one."""
        with FastPool(1, items=["left"], name="db") as pool:
            lease = pool.lease()
            assert repr(lease) == "<Lease of 'db': not entered>"
            with lease:
                assert repr(lease) == "<Lease of 'db': held, 'left'>"
            assert repr(lease) == "<Lease of 'db': released>"
        with SharedPool(lambda: "left", name="db") as shared:
            with (sharing := shared.lease()):
                assert repr(sharing) == "<SharedLease of 'db': held, 'left'>"
            assert repr(sharing) == "<SharedLease of 'db': released>"
        with KeyedPool(lambda key: "left", name="db") as keyed:
            of_key = keyed.lease("a")
            assert repr(of_key) == "<KeyedLease of 'db', key 'a': not entered>"
            with of_key:
                assert repr(of_key) == """<KeyedLease of "db['a']": held, 'left'>"""
        with WeightedSemaphore(3, name="seats").hold(2) as hold:
            assert repr(hold) == "<SemaphoreHold of 2 of 'seats': held>"

    def test_a_repr_that_raises_does_not_matter(self) -> None:
        """The lease is named by its state, and the resource by its type."""
        with FastPool(1, factory=Rude, name="db") as pool:
            held = pool.acquire()
            assert "'db': held, <Rude, whose repr raised RuntimeError>" in repr(held)
            held.release()


UNCOPIED: dict[str, Callable[[], Any]] = {
    "FastPool": lambda: FastPool(1, factory=object),
    "KeyedPool": lambda: KeyedPool(lambda key: object()),
    "SharedPool": lambda: SharedPool(object, items=(0, 1)),
    "Queue": Queue,
    "LifoQueue": LifoQueue,
    "WeightedSemaphore": lambda: WeightedSemaphore(3),
    "ObjectCache": lambda: ObjectCache(list),
    "WorkerPool": lambda: WorkerPool(1, 1),
    "TaskPool": lambda: TaskPool(1),
    "Lease": lambda: FastPool(1, factory=object).lease(),
    "SharedLease": lambda: SharedPool(object, items=(0, 1)).lease(),
    "KeyedLease": lambda: KeyedPool(lambda key: object()).lease("a"),
    "SemaphoreHold": lambda: WeightedSemaphore(3).hold(2),
}


@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", UNCOPIED)
def test_nothing_is_pickled_or_copied(kind: str, act: Callable[[Any], Any]) -> None:
    """The TypeError says what to hand on instead."""
    thing = UNCOPIED[kind]()
    says(TypeError, lambda: act(thing), kind, "cannot be pickled or copied", "hand on")


def test_a_subclass_may_be_pickled_its_own_way() -> None:
    """One that says how it is made anew is."""
    copied = copy.copy(Twin(3))
    assert type(copied) is Twin and copied.maxsize == 3


class Twin(FastPool[Any]):
    def __reduce__(self) -> Any:
        return Twin, (self.maxsize,)


def test_a_task_gets_the_same_answers() -> None:
    """Of a pool with an async factory too."""

    async def connect() -> Connection:
        return Connection()

    async def main() -> None:
        async with FastPool(1, factory=connect, name="db") as pool:
            lease: Any = await pool.aacquire()
            says(ValueError, lambda: pool.put(lease), "db: ", "lease.release()")
            assert "'db': held" in repr(lease)
            await lease.__aexit__(None, None, None)

    asyncio.run(main())


@pytest.mark.parametrize("name", ["ClosedFlag", "Event", "Job", "Lock", "Ticks"])
@pytest.mark.parametrize("act", [pickle.dumps, copy.copy])
def test_no_part_of_the_core_is_pickled_or_copied(name: str, act: Callable[[Any], Any]) -> None:
    part = getattr(_core, name)()
    with pytest.raises(TypeError, match="cannot pickle"):
        act(part)
