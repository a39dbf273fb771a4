"""``import fastpool.queue as queue``: the standard library's module with compiled queues.

``Queue`` and ``LifoQueue`` are fastpool's own; ``PriorityQueue``, ``SimpleQueue`` and the
exceptions are the standard library's.
"""

from queue import Empty, Full, PriorityQueue, SimpleQueue

from ._core import LifoQueue, Queue
from .errors import ShutDown

__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "ShutDown", "SimpleQueue"]
