"""A WorkerPool with the constructor of ThreadPoolExecutor, for CPython's own tests.

They look at ``_threads``, ``_max_workers`` and ``_broken``, which a WorkerPool has too, and for the
words in which ThreadPoolExecutor refuses.
"""

from __future__ import annotations

import os
from typing import Any

from fastpool import WorkerPool

CPUS = getattr(os, "process_cpu_count", os.cpu_count)


class ThreadPoolExecutor(WorkerPool):
    def __init__(
        self, max_workers: int | None = None, thread_name_prefix: str = "", **options: Any
    ) -> None:
        if max_workers is None:
            max_workers = min(32, (CPUS() or 1) + 4)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        super().__init__(max_workers, 1000, thread_name_prefix=thread_name_prefix, **options)
