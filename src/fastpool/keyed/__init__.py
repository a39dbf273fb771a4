"""KeyedPool, configured: a pool for each key, under common limits."""

from __future__ import annotations

from .. import _core, pool
from .._aio import methods
from .._core import KeyedLease, KeyedPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["KeyedLease", "KeyedPool"]


def configure(
    core: _core.Core, factory: Any, given: dict[str, Any]
) -> tuple[dict[Any, _core.Core], str]:
    """What ``KeyedPool.__init__`` does, apart from allocating the core; its cores and its name."""
    from ._options import parse_keyed  # with the first one: the import is to be quick

    options = parse_keyed(factory, _core.DEFAULT, given)
    manager: Any
    if options.hooks.awaits:
        from ._per_loop import KeyedPerLoopManager

        manager = KeyedPerLoopManager(core, options)
    else:
        from ._manager import KeyedManager

        manager = KeyedManager(core, options)
    pool.adopt(manager)
    return manager.cores, manager.name


_core.bind_keyed(configure)
methods.install_keyed()
