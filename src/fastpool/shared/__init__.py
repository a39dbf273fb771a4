"""SharedPool, configured: the second kind of pool, for resources that many callers use at once."""

from __future__ import annotations

from .. import _core, pool
from .._core import SharedLease, SharedPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SharedLease", "SharedPool"]

INF = float("inf")


def configure(core: _core.Core, factory: Any, given: dict[str, Any]) -> tuple[Any, str]:
    """What ``SharedPool.__init__`` does, apart from allocating the core; the items and the name."""
    from ..pool._opening import begin
    from ._options import parse_shared  # with the first one: the import is to be quick

    o = parse_shared(factory, _core.DEFAULT, given)
    manager = _manager_of(core, o)
    pool.adopt(manager)
    if o.open:
        begin(manager)
    return (o.least, o.maxsize or None), o.name


def _manager_of(core: _core.Core, options: Any) -> Any:
    """Set up and bound to the core: one for the pool, or with an async factory one per loop."""
    if options.hooks.awaits:
        from ._per_loop import SharedPerLoopManager

        return SharedPerLoopManager(core, options)
    from ._manager import SharedManager

    manager = SharedManager(core, options)
    manager.set_core(options.maxsize or INF, options.max_waiting)
    return manager


_core.bind_shared(configure)
