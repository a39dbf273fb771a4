"""A service that leaks: what the pictures of screenshots.py show."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from _thread import start_new_thread
from typing import Any

from fastpool import FastPool, KeyedPool, PoolTimeout, SharedPool, WeightedSemaphore


class Connection:
    """Whatever a driver returns."""


orders = FastPool(8, factory=Connection, name="orders", leak_after=600)
search = KeyedPool(lambda key: Connection(), max_total=12, name="search", leak_after=600)
cache = SharedPool(Connection, items=(1, 2), slots=10, name="cache")
uploads = WeightedSemaphore(64, name="uploads, MiB")
leaked: list[Any] = []


def refund(order: int) -> None:
    leaked.append(orders.acquire())  # and never released


def checkout() -> None:
    with contextlib.suppress(PoolTimeout), orders.lease(timeout=1.5):
        time.sleep(random.uniform(0.02, 0.3))


def query() -> None:
    with search.lease(random.choice(["eu-1", "eu-2", "us-1"])):
        time.sleep(random.uniform(0.005, 0.05))


def read_cache() -> None:
    with cache.lease(), uploads.hold(random.randint(1, 8)):
        time.sleep(random.uniform(0.005, 0.08))


def work_on_refunds(seconds: float) -> None:
    threading.current_thread().name = "refund-1"
    for order in range(6):
        refund(order)
        time.sleep(seconds / 6)


def repeat(work: Any, name: str) -> None:
    threading.current_thread().name = name
    while True:
        work()
        time.sleep(random.uniform(0, 0.1))


def serve_requests(seconds: float) -> None:
    """Do so until the process ends; all that leaks has leaked after so many seconds."""
    for work, count in ((checkout, 10), (query, 6), (read_cache, 8)):
        for number in range(1, count + 1):
            # without the frames of Thread, which are nobody's business in a picture
            start_new_thread(repeat, (work, f"{work.__name__}-{number}"))
    start_new_thread(work_on_refunds, (seconds,))
