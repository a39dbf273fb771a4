"""Who holds what in a shared pool: a ticket names each lease, since many are of one resource."""

from __future__ import annotations

from itertools import count

from ..pool._lease_tracking import LeaseTracking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .. import _core
    from ..pool._manager import Manager
    from ..stats import Holder

__all__ = ["SharedLeaseTracking"]


class SharedLeaseTracking(LeaseTracking):
    """Entries go on with the number of the slot, and whether a ``put`` is to end them."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(manager)
        # none is the number of a slot, which others ask to forget
        self.next_ticket = count(2**32).__next__

    def note(self, guard: _core.SlotGuard) -> None:
        guard.ticket = self.next_ticket()
        self.taken[guard.ticket] = [*self.entry(), guard.index, False]
        self.manager.maintenance.within(self.leak_after)

    def loosen(self, ticket: int) -> None:
        """There is no lease that knows this ticket: it was a ``get``."""
        self.taken[ticket][5] = True

    def of(self, index: int) -> list[int]:
        """Those of one resource that a ``put`` may end, the oldest first."""
        return [
            ticket for ticket, entry in list(self.taken.items()) if entry[4] == index and entry[5]
        ]

    def leases(self) -> list[Holder[Any]]:
        from ..stats import Holder

        core, now = self.core, self.core.now()
        found: list[Holder[Any]] = []
        if self.on:
            for taken, thread, stack, _, index, _ in list(self.taken.values()):
                if (resource := core.item(index)) is not None:  # else it has come back meanwhile
                    age = max(0.0, now - taken)
                    found.append(Holder(resource, age, thread, tuple(stack)))
            return found
        for index, state, since, *_ in core.slots():
            if state == "leased" and (resource := core.item(index)) is not None:
                holder = Holder(resource, max(0.0, now - since), None, ())
                found += [holder] * core.load(index)
        return found
