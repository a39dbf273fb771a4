"""The layers inside the compiled core: which header includes which, and which is plain C."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.once  # reads sources

CORE = Path(__file__).resolve().parents[2] / "src/fastpool/core"

#: Header: what it includes of ours. Each includes only what stands above it.
HEADERS: dict[str, set[str]] = {
    "platform/clock.h": set(),
    "platform/thread_index.h": set(),
    "platform/interpreter.h": set(),
    "platform/socket.h": set(),
    "platform/lock.h": set(),
    "platform/atomics.h": set(),
    "storage/deque.h": {"platform/atomics.h"},
    "storage/slot.h": {"platform/atomics.h"},
    "storage/ring.h": {"storage/slot.h"},
    "storage/slot_table.h": {"storage/deque.h", "storage/ring.h"},
    "storage/semaphore_units.h": {"platform/atomics.h"},
    "storage/lease_counts.h": {"platform/clock.h", "storage/slot_table.h"},
    "object_cache.h": {"platform/clock.h", "platform/thread_index.h", "storage/deque.h"},
    "waiting/waiter.h": {"platform/atomics.h"},
    "core.h": {
        "platform/clock.h",
        "storage/lease_counts.h",
        "storage/semaphore_units.h",
        "waiting/waiter.h",
    },
    "invariants.h": {"core.h"},
    "waiting/mailbox.h": {"core.h"},
    "waiting/parking.h": {"waiting/mailbox.h"},
    "slot_view.h": {"core.h"},
    "queue.h": {"core.h"},
    "pool.h": {"core.h"},
    "shared_pool.h": {"pool.h"},
    "semaphore.h": {"core.h"},
    "waiting/blocking.h": {
        "invariants.h",
        "pool.h",
        "queue.h",
        "semaphore.h",
        "shared_pool.h",
        "slot_view.h",
        "waiting/parking.h",
    },
    "keyed_pool.h": {"slot_view.h"},
    "bulk_close.h": {"shared_pool.h", "slot_view.h"},
    "loop_lookup.h": {"core.h"},
    "registry.h": {"core.h", "slot_view.h"},
    "fork.h": {"object_cache.h", "registry.h", "waiting/parking.h"},
    "gc.h": {"queue.h", "registry.h"},
    "cpython.h": {
        "fork.h",
        "gc.h",
        "loop_lookup.h",
        "object_cache.h",
        "platform/lock.h",
        "registry.h",
        "waiting/blocking.h",
    },
    "lease.h": {"shared_pool.h", "slot_view.h"},
    "fastcall.h": {"cpython.h", "lease.h"},
}

#: These know of Python: how a thread sleeps, what the collector sees, how a method is called.
OF_PYTHON = {
    "platform/interpreter.h",
    "platform/lock.h",
    "waiting/mailbox.h",
    "waiting/parking.h",
    "waiting/blocking.h",
    "loop_lookup.h",
    "registry.h",
    "fork.h",
    "gc.h",
    "cpython.h",
    "fastcall.h",
}


def headers() -> list[str]:
    return sorted(path.relative_to(CORE).as_posix() for path in CORE.rglob("*.h"))


def included(header: str) -> set[str]:
    """What a header includes of ours, as paths below core/."""
    found = re.findall(r'^\s*#\s*include "([^"]+)"', (CORE / header).read_text(), re.MULTILINE)
    return {os.path.normpath(os.path.join(os.path.dirname(header), name)) for name in found}


@pytest.mark.parametrize("header", headers())
def test_a_header_includes_only_what_the_table_grants(header: str) -> None:
    assert header in HEADERS, f"{header} has no place in the order of HEADERS"
    new = included(header) - HEADERS[header]
    assert not new, f"new includes in {header}: {sorted(new)}"


def test_the_table_has_no_more_than_there_is() -> None:
    assert set(HEADERS) == set(headers())
    assert all(HEADERS[header] == included(header) for header in HEADERS)


def test_headers_include_only_what_stands_above_them() -> None:
    order = list(HEADERS)
    for header, others in HEADERS.items():
        assert all(order.index(other) < order.index(header) for other in others), header


@pytest.mark.parametrize("header", [name for name in HEADERS if name not in OF_PYTHON])
def test_the_algorithm_is_plain_c(header: str) -> None:
    """The C harness builds it without Python, and whoever wants to read it alone can."""
    used = re.findall(r"#\s*include <Python\.h>|\bPy[A-Z_]\w+\(", (CORE / header).read_text())
    assert not used, f"{header} is to be plain C: {used}"
