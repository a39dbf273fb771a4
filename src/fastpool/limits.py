"""Limits: a weighted semaphore for threads and tasks."""

from __future__ import annotations

from ._core import SemaphoreHold, WeightedSemaphore

__all__ = ["SemaphoreHold", "WeightedSemaphore"]
