"""`fastpool.grpc.aio_shared` against etcd, a server that is not ours, through generated stubs."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from bench.grpc.server import established  # noqa: E402
from fastpool.grpc import ChannelStats, aio_shared, stats  # noqa: E402
from integration.grpc.etcd_server import Etcd, Stubs  # noqa: E402
from support.loops import KINDS, eventually, run_in  # noqa: E402

pytestmark = [pytest.mark.servers, pytest.mark.once]

TIMEOUT = 10.0
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

Main = Callable[[Any], Any]
Using = Callable[..., None]


@pytest.fixture(params=KINDS)
def using(request: pytest.FixtureRequest, etcd: Etcd) -> Using:
    """``using(main, **parameters)``: run ``main(channel)`` on a loop; then no slot is held."""

    def use(main: Main, **parameters: Any) -> None:
        async def body() -> None:
            async with aio_shared(etcd.target, **parameters) as channel:
                await main(channel)
                gc.collect()
                await eventually(lambda: seen(etcd.target).in_use == 0)
                assert seen(etcd.target).waiting == 0

        run_in(request.param, body(), within=30)
        assert stats() == ()

    return use


def seen(target: str) -> ChannelStats:
    (entry,) = (each for each in stats() if each.target == target)
    return entry


async def watch(stubs: Stubs, channel: Any, key: bytes) -> Any:
    """A watch of all keys that begin with `key`, which etcd has confirmed."""
    create = stubs.messages.WatchCreateRequest(key=key, range_end=key + b"\xff")
    call = stubs.watch(channel).Watch(timeout=60)
    await call.write(stubs.messages.WatchRequest(create_request=create))
    assert (await call.read()).created
    return call


def test_tasks_put_get_and_delete_over_one_connection(
    etcd: Etcd, etcd_stubs: Stubs, using: Using
) -> None:
    pb = etcd_stubs.messages

    async def main(channel: Any) -> None:
        kv = etcd_stubs.kv(channel)

        async def use(index: int) -> None:
            key, value = b"key/%d" % index, b"value %d" % index
            await kv.Put(pb.PutRequest(key=key, value=value), timeout=TIMEOUT)
            (found,) = (await kv.Range(pb.RangeRequest(key=key), timeout=TIMEOUT)).kvs
            assert (found.key, found.value, found.version) == (key, value, 1)

        await asyncio.gather(*map(use, range(100)))
        everything = pb.DeleteRangeRequest(key=b"key/", range_end=b"key0")
        assert (await kv.DeleteRange(everything, timeout=TIMEOUT)).deleted == 100
        with pytest.raises(grpc.aio.AioRpcError, match="key is not provided") as failed:
            await kv.Put(pb.PutRequest(value=b"v"), timeout=TIMEOUT)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert established(etcd.port) in (1, None)

    using(main, connections=1)


def test_a_watch_holds_its_slot_until_its_end(etcd: Etcd, etcd_stubs: Stubs, using: Using) -> None:
    pb = etcd_stubs.messages

    async def main(channel: Any) -> None:
        kv = etcd_stubs.kv(channel)
        call = await watch(etcd_stubs, channel, b"w/")
        assert seen(etcd.target).in_use == 1
        await kv.Put(pb.PutRequest(key=b"w/1", value=b"one"), timeout=TIMEOUT)
        await kv.Put(pb.PutRequest(key=b"elsewhere", value=b"-"), timeout=TIMEOUT)
        await kv.DeleteRange(pb.DeleteRangeRequest(key=b"w/1"), timeout=TIMEOUT)
        told: list[Any] = []
        while len(told) < 2:
            told += (await call.read()).events
        assert [(each.type, each.kv.key) for each in told] == [
            (pb.Event.PUT, b"w/1"),
            (pb.Event.DELETE, b"w/1"),
        ]
        assert seen(etcd.target).in_use == 1
        call.cancel()
        await eventually(lambda: seen(etcd.target).in_use == 0)

    using(main, connections=1, streams_per_connection=2)


def test_watches_fill_the_slots_and_the_next_call_waits_in_queue(
    etcd: Etcd, etcd_stubs: Stubs, using: Using
) -> None:
    pb = etcd_stubs.messages

    async def main(channel: Any) -> None:
        watches = [await watch(etcd_stubs, channel, b"w/") for _ in range(4)]
        now = seen(etcd.target)
        assert (now.in_use, now.connections) == (4, 2)
        put = etcd_stubs.kv(channel).Put
        with pytest.raises(grpc.RpcError) as failed:
            await put(pb.PutRequest(key=b"w/x", value=b"never sent"), timeout=0.2)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        async def later() -> None:
            await put(pb.PutRequest(key=b"w/y", value=b"y"), timeout=TIMEOUT)

        task = asyncio.ensure_future(later())
        await eventually(lambda: seen(etcd.target).waiting == 1)
        watches.pop().cancel()
        await task
        for call in watches:  # what was never sent, nobody has seen
            assert [each.kv.key for each in (await call.read()).events] == [b"w/y"]
            call.cancel()

    using(main, connections=(1, 2), streams_per_connection=2)


def test_watches_that_are_dropped_give_their_slots_back(
    etcd: Etcd, etcd_stubs: Stubs, using: Using
) -> None:
    pb = etcd_stubs.messages

    async def main(channel: Any) -> None:
        async def look() -> None:
            create = pb.WatchCreateRequest(key=b"w/")
            first = pb.WatchRequest(create_request=create)

            async def requests() -> Any:
                yield first

            async for answer in etcd_stubs.watch(channel).Watch(requests(), timeout=60):
                assert answer.created
                break

        for _ in range(6):  # more than there are slots
            async with asyncio.timeout(TIMEOUT):
                await look()

    using(main, connections=1, streams_per_connection=2)


def test_a_lease_is_kept_alive_over_one_stream(etcd: Etcd, etcd_stubs: Stubs, using: Using) -> None:
    pb = etcd_stubs.messages

    async def main(channel: Any) -> None:
        kv, lease = etcd_stubs.kv(channel), etcd_stubs.lease(channel)
        granted = (await lease.LeaseGrant(pb.LeaseGrantRequest(TTL=60), timeout=TIMEOUT)).ID
        await kv.Put(pb.PutRequest(key=b"mine", value=b"v", lease=granted), timeout=TIMEOUT)
        alive = lease.LeaseKeepAlive(timeout=60)
        for _ in range(5):
            await alive.write(pb.LeaseKeepAliveRequest(ID=granted))
            answer = await alive.read()
            assert granted == answer.ID and answer.TTL == 60
            assert seen(etcd.target).in_use == 1

        await lease.LeaseRevoke(pb.LeaseRevokeRequest(ID=granted), timeout=TIMEOUT)
        assert (await kv.Range(pb.RangeRequest(key=b"mine"), timeout=TIMEOUT)).count == 0
        await alive.done_writing()  # etcd ends its half when we have ended ours
        assert await alive.read() is grpc.aio.EOF
        assert await alive.code() is grpc.StatusCode.OK

    using(main)


def test_etcd_is_killed_and_comes_back_under_load(
    etcd: Etcd, etcd_stubs: Stubs, using: Using
) -> None:
    """No call that waits for the connection and begins after its return fails; what was answered
    is still there; a watch that was cut says so; and no slot is lost by any of it."""
    pb = etcd_stubs.messages
    acknowledged: list[bytes] = []
    failures: list[tuple[int, float, grpc.StatusCode]] = []  # writer, begin, code

    async def main(channel: Any) -> None:
        put = etcd_stubs.kv(channel).Put
        running = True

        async def write(index: int) -> None:
            number = 0
            while running:
                key = b"load/%d/%d" % (index, number)
                number += 1
                begun = time.monotonic()
                request = pb.PutRequest(key=key, value=key)
                try:
                    await put(request, timeout=TIMEOUT, wait_for_ready=True)
                except grpc.RpcError as error:
                    failures.append((index, begun, error.code()))
                else:
                    acknowledged.append(key)

        async def written(more: int) -> None:
            wanted = len(acknowledged) + more
            await eventually(lambda: len(acknowledged) >= wanted)

        writers = [asyncio.ensure_future(write(index)) for index in range(12)]
        call = await watch(etcd_stubs, channel, b"elsewhere")
        await written(100)
        await asyncio.to_thread(etcd.kill)
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await call.read()
        assert cut.value.code() is UNAVAILABLE
        await asyncio.to_thread(etcd.start)
        back = time.monotonic()
        await written(100)
        running = False
        await asyncio.gather(*writers)

        assert {code for _, _, code in failures} <= {UNAVAILABLE}
        assert [begun for _, begun, _ in failures if begun >= back] == []
        # Only what was on the wire when etcd died can fail. A writer that hears of it may call
        # again on the other connection before that one's end is known.
        assert all(times <= 2 for times in Counter(index for index, *_ in failures).values())
        everything = pb.RangeRequest(key=b"load/", range_end=b"load0")
        stored = (await etcd_stubs.kv(channel).Range(everything, timeout=TIMEOUT)).kvs
        assert {*acknowledged} <= {each.key for each in stored}

    using(main, connections=2, streams_per_connection=4)
