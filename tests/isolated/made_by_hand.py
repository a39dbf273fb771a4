"""Objects that were not made as they should be are errors to use, and never a crash.

Every compiled type is made past its constructor, by ``__new__`` and by a subclass whose
``__init__`` does not call that of its base. What pools make for their callers cannot be made by
hand at all.
"""

import gc
import io
import warnings
from contextlib import redirect_stderr

import fastpool
from fastpool import _core

warnings.simplefilter("ignore")
PRIVATE = {
    "Core",
    "Counted",
    "Mailbox",
    "Wait",
}  # no caller ever sees one
TYPES = [
    kind for name, kind in vars(_core).items() if isinstance(kind, type) and name not in PRIVATE
]
BY_POOLS_ALONE = {
    "Lease",
    "ConnectionBlock",
    "KeyedLease",
    "SharedLease",
    "SemaphoreHold",
    "CallSlot",
    "SlotGuard",
    "Guard",
}
UNTRIED = {  # of no interest, or they would rightly wait for ever
    "__class__", "__init_subclass__", "__subclasshook__", "__new__", "join", "wait", "wait_for",
    "run", "hold", "acquire",
}  # fmt: skip
ARGUMENTS = [(), (None,), (1,), ("key",), (None, None, None), (1, None), (0, 0)]


def ways(kind):
    yield lambda: kind.__new__(kind)
    try:
        heir = type("Heir", (kind,), {"__init__": lambda self: None})
    except TypeError:  # it is final
        return
    yield heir
    yield lambda: kind.__new__(heir)
    yield kind  # without arguments


def tried(act):
    try:
        act()
    except Exception:
        pass


def use(thing):
    for name in dir(type(thing)):
        if name in UNTRIED or (name in ("get", "put") and isinstance(thing, OF_QUEUES)):
            continue
        try:
            found = getattr(thing, name)
        except Exception:
            continue
        if callable(found):
            for arguments in ARGUMENTS:
                tried(lambda: found(*arguments))  # noqa: B023
    tried(lambda: repr(thing))


OF_QUEUES = (_core.Queue, _core.LifoQueue, _core.FastPool)
made = set()
log = io.StringIO()
with redirect_stderr(log):  # coroutines that nobody awaits, exceptions in finalisers
    for kind in TYPES:
        for way in ways(kind):
            try:
                thing = way()
            except Exception:
                continue
            made.add(kind.__name__)
            use(thing)
            if isinstance(thing, OF_QUEUES):
                tried(lambda: thing.get(timeout=0))  # noqa: B023
                tried(lambda: thing.put(1, timeout=0))  # noqa: B023
            del thing
            gc.collect()

assert not made & BY_POOLS_ALONE, made & BY_POOLS_ALONE

for kind, name in [(fastpool.Lease, "FastPool.lease"), (fastpool.SharedLease, "SharedPool.lease")]:
    try:
        kind.__new__(kind)
    except TypeError as error:
        assert name in str(error), error
    else:
        raise AssertionError(f"{kind} was made by hand")
