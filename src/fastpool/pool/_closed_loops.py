"""What a closed event loop has left: closed without it, as far as that can be done."""

from __future__ import annotations

from ._options import is_async

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._options import Hooks

__all__ = ["close_at_last"]


def close_at_last(hooks: Hooks, resource: object) -> None:
    """Calls the close hook of a resource whose loop is closed, if it is a plain function; what it
    raises is of no interest.  On a worker."""
    close = hooks.close
    if close is None and not hasattr(resource, "aclose"):
        close = getattr(type(resource), "close", None)
    if close is not None and not is_async(close):
        try:
            result = close(resource)
            if hasattr(result, "__await__") and hasattr(result, "close"):
                result.close()  # a coroutine that cannot be run
        except Exception:  # its loop is closed
            pass
