"""`fastpool.grpc.shared` against etcd, a server that is not ours, through generated stubs."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from bench.grpc.server import established  # noqa: E402
from fastpool.grpc import ChannelStats, shared, stats  # noqa: E402
from integration.grpc.etcd_server import Etcd, Stubs  # noqa: E402
from support.helpers import ThreadRunner, eventually  # noqa: E402

pytestmark = [pytest.mark.servers, pytest.mark.once]

TIMEOUT = 10.0


def seen(target: str) -> ChannelStats:
    (entry,) = (each for each in stats() if each.target == target)
    return entry


class Requests:
    """The requests of a stream, as they are given: the stream's own end is that of the test."""

    def __init__(self, *first: Any) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in first:
            self.send(request)

    def send(self, request: Any) -> None:
        self._queue.put(request)

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._queue.get, None)


def watch(stubs: Stubs, channel: Any, key: bytes) -> tuple[Requests, Any]:
    """A watch of all keys that begin with `key`, which etcd has confirmed."""
    create = stubs.messages.WatchCreateRequest(key=key, range_end=key + b"\xff")
    requests = Requests(stubs.messages.WatchRequest(create_request=create))
    call = stubs.watch(channel).Watch(iter(requests), timeout=60)
    assert next(call).created
    return requests, call


def changes(call: Any, number: int) -> list[tuple[int, bytes, bytes]]:
    """The next so many changes that a watch tells; etcd may tell several at once."""
    told: list[tuple[int, bytes, bytes]] = []
    while len(told) < number:
        told += [(event.type, event.kv.key, event.kv.value) for event in next(call).events]
    return told


def test_threads_put_get_and_delete_over_one_connection(
    etcd: Etcd, etcd_stubs: Stubs, runner: ThreadRunner
) -> None:
    pb = etcd_stubs.messages

    def use(index: int) -> None:
        key, value = b"key/%d" % index, b"value %d" % index
        with shared(etcd.target) as channel:
            kv = etcd_stubs.kv(channel)
            kv.Put(pb.PutRequest(key=key, value=value), timeout=TIMEOUT)
            (found,) = kv.Range(pb.RangeRequest(key=key), timeout=TIMEOUT).kvs
            assert (found.key, found.value, found.version) == (key, value, 1)

    with shared(etcd.target) as channel:
        runner.together(16, use)
        runner.finish()
        kv = etcd_stubs.kv(channel)
        everything = {"key": b"key/", "range_end": b"key0"}
        count = pb.RangeRequest(**everything, count_only=True)
        assert kv.Range(count, timeout=TIMEOUT).count == 16
        assert kv.DeleteRange(pb.DeleteRangeRequest(**everything), timeout=TIMEOUT).deleted == 16
        assert kv.Range(count, timeout=TIMEOUT).count == 0
        assert established(etcd.port) in (1, None)
        assert seen(etcd.target).in_use == 0
    assert stats() == ()


def test_futures_and_errors_come_through_as_etcd_sent_them(etcd: Etcd, etcd_stubs: Stubs) -> None:
    pb = etcd_stubs.messages
    with shared(etcd.target) as channel:
        kv, lease = etcd_stubs.kv(channel), etcd_stubs.lease(channel)
        futures = [
            kv.Put.future(pb.PutRequest(key=b"%d" % n, value=b"v"), timeout=TIMEOUT)
            for n in range(20)
        ]
        revisions = {future.result(TIMEOUT).header.revision for future in futures}
        assert len(revisions) == 20  # etcd numbers its writes
        with pytest.raises(grpc.RpcError, match="key is not provided") as failed:
            kv.Put(pb.PutRequest(value=b"v"), timeout=TIMEOUT)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError, match="lease not found") as failed:
            lease.LeaseRevoke(pb.LeaseRevokeRequest(ID=7), timeout=TIMEOUT)
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND
        eventually(lambda: seen(etcd.target).in_use == 0)


def test_a_watch_holds_its_slot_until_its_end(etcd: Etcd, etcd_stubs: Stubs) -> None:
    pb = etcd_stubs.messages
    with shared(etcd.target, connections=1, streams_per_connection=2) as channel:
        kv = etcd_stubs.kv(channel)
        requests, call = watch(etcd_stubs, channel, b"w/")
        assert seen(etcd.target).in_use == 1
        kv.Put(pb.PutRequest(key=b"w/1", value=b"one"), timeout=TIMEOUT)
        kv.Put(pb.PutRequest(key=b"elsewhere", value=b"-"), timeout=TIMEOUT)
        kv.DeleteRange(pb.DeleteRangeRequest(key=b"w/1"), timeout=TIMEOUT)
        assert changes(call, 2) == [
            (pb.Event.PUT, b"w/1", b"one"),
            (pb.Event.DELETE, b"w/1", b""),
        ]
        assert seen(etcd.target).in_use == 1

        cancel = pb.WatchCancelRequest(watch_id=0)
        requests.send(pb.WatchRequest(cancel_request=cancel))
        assert next(call).canceled  # the watch has ended, its stream has not: etcd keeps it
        assert seen(etcd.target).in_use == 1
        call.cancel()
        requests.end()
        eventually(lambda: seen(etcd.target).in_use == 0)


def test_watches_fill_the_slots_and_the_next_call_waits_in_queue(
    etcd: Etcd, etcd_stubs: Stubs, runner: ThreadRunner
) -> None:
    pb = etcd_stubs.messages
    with shared(etcd.target, connections=(1, 2), streams_per_connection=2) as channel:
        watches = [watch(etcd_stubs, channel, b"w/") for _ in range(4)]
        now = seen(etcd.target)
        assert (now.in_use, now.connections) == (4, 2)
        put = etcd_stubs.kv(channel).Put
        with pytest.raises(grpc.RpcError) as failed:
            put(pb.PutRequest(key=b"w/x", value=b"never sent"), timeout=0.2)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        later = runner.start(lambda: put(pb.PutRequest(key=b"w/y", value=b"y"), timeout=TIMEOUT))
        eventually(lambda: seen(etcd.target).waiting == 1)
        (requests, call), *others = watches
        call.cancel()
        requests.end()
        later.result()
        # What was never sent, nobody has seen.
        assert [changes(other, 1) for _, other in others] == [[(pb.Event.PUT, b"w/y", b"y")]] * 3
        for requests, other in others:
            other.cancel()
            requests.end()
        eventually(lambda: seen(etcd.target).in_use == 0)
        assert seen(etcd.target).waiting == 0


def test_a_watch_that_is_dropped_gives_its_slot_back(etcd: Etcd, etcd_stubs: Stubs) -> None:
    with shared(etcd.target, connections=1, streams_per_connection=2) as channel:
        for _ in range(5):  # more than there are slots
            requests, call = watch(etcd_stubs, channel, b"w/")
            del call
            requests.end()
        eventually(lambda: seen(etcd.target).in_use == 0)


def test_a_lease_is_kept_alive_over_one_stream(etcd: Etcd, etcd_stubs: Stubs) -> None:
    pb = etcd_stubs.messages
    with shared(etcd.target) as channel:
        kv, lease = etcd_stubs.kv(channel), etcd_stubs.lease(channel)
        granted = lease.LeaseGrant(pb.LeaseGrantRequest(TTL=60), timeout=TIMEOUT).ID
        kv.Put(pb.PutRequest(key=b"mine", value=b"v", lease=granted), timeout=TIMEOUT)
        requests = Requests()
        alive = lease.LeaseKeepAlive(iter(requests), timeout=60)
        for _ in range(5):
            requests.send(pb.LeaseKeepAliveRequest(ID=granted))
            answer = next(alive)
            assert granted == answer.ID and answer.TTL == 60
            assert seen(etcd.target).in_use == 1

        lease.LeaseRevoke(pb.LeaseRevokeRequest(ID=granted), timeout=TIMEOUT)
        assert kv.Range(pb.RangeRequest(key=b"mine"), timeout=TIMEOUT).count == 0
        requests.send(pb.LeaseKeepAliveRequest(ID=granted))
        assert next(alive).TTL == 0
        requests.end()  # etcd ends its half when we have ended ours
        assert list(alive) == []
        assert alive.code() is grpc.StatusCode.OK
        eventually(lambda: seen(etcd.target).in_use == 0)


def test_etcd_is_killed_and_comes_back_under_load(
    etcd: Etcd, etcd_stubs: Stubs, runner: ThreadRunner
) -> None:
    """No call that waits for the connection and begins after its return fails; what was answered
    is still there; a watch that was cut says so; and no slot is lost by any of it."""
    pb = etcd_stubs.messages
    acknowledged: list[bytes] = []
    failures: list[tuple[int, float, grpc.StatusCode]] = []  # writer, begin, code
    stop = threading.Event()

    with shared(etcd.target, connections=2, streams_per_connection=4) as channel:
        put = etcd_stubs.kv(channel).Put

        def write(index: int) -> None:
            number = 0
            while not stop.is_set():
                key = b"load/%d/%d" % (index, number)
                number += 1
                begun = time.monotonic()
                try:
                    put(pb.PutRequest(key=key, value=key), timeout=TIMEOUT, wait_for_ready=True)
                except grpc.RpcError as error:
                    failures.append((index, begun, error.code()))
                else:
                    acknowledged.append(key)

        def written(more: int) -> None:
            wanted = len(acknowledged) + more
            eventually(lambda: len(acknowledged) >= wanted)

        runner.together(12, write)
        requests, call = watch(etcd_stubs, channel, b"elsewhere")
        written(100)
        etcd.kill()
        with pytest.raises(grpc.RpcError) as cut:
            next(call)
        assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
        requests.end()
        etcd.start()
        back = time.monotonic()
        written(100)
        stop.set()
        runner.finish()

        assert {code for _, _, code in failures} <= {grpc.StatusCode.UNAVAILABLE}
        assert [begun for _, begun, _ in failures if begun >= back] == []
        # Only what was on the wire when etcd died can fail. A writer that hears of it may call
        # again on the other connection before that one's end is known.
        assert all(times <= 2 for times in Counter(index for index, *_ in failures).values())
        eventually(lambda: seen(etcd.target).in_use == 0)
        assert seen(etcd.target).waiting == 0
        everything = pb.RangeRequest(key=b"load/", range_end=b"load0")
        stored = etcd_stubs.kv(channel).Range(everything, timeout=TIMEOUT).kvs
        assert {*acknowledged} <= {each.key for each in stored}
        _, again = watch(etcd_stubs, channel, b"elsewhere")
        again.cancel()
