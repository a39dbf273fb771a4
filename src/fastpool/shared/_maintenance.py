"""What a shared pool does with time: renews what is too old, closes what is not needed, and ends
what does not drain."""

from __future__ import annotations

from ..pool import _policy
from ..pool._maintenance import Maintenance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._manager import SharedManager
    from ._options import SharedOptions

__all__ = ["SharedMaintenance"]

INF = float("inf")


class SharedMaintenance(Maintenance):
    """See the module."""

    manager: SharedManager
    look_at = INF  # when the peaks are looked at; of the pool's clock
    kept_since = 0.0

    def __init__(self, manager: SharedManager) -> None:
        super().__init__(manager)
        self.options: SharedOptions = manager.options
        # A slot and its use: when abort is called; inf: it was.
        self.draining: dict[tuple[int, int], float] = {}

    def opened(self, index: int) -> None:
        self.maintain_soon()  # there are few, and one more may be one that is not needed

    def maintain(self) -> None:
        manager, core, o = self.manager, self.core, self.options
        if core.closed:
            return
        now = core.now()
        with self.maintaining.hold():
            next_at = self._renew(now)
            next_at = min(next_at, self._shrink(now), self._abort(now))
            slots = core.slots()
            if o.keepalive != INF and slots:
                idle = [slot for slot in slots if slot[1] == "idle" and not slot[6]]
                ages = [(s[0], max(s[2], self.kept_alive.get(s[0], s[2]))) for s in idle]
                oldest = min(ages, key=lambda age: age[1], default=None)
                next_at = min(next_at, self._keep_alive(now, oldest))
            if manager.creator.missing():
                manager.creator.refill()
            if manager.tracking.taken:
                next_at = min(next_at, manager.tracking.report_leaks(now))
        self._schedule_visit(now, next_at)

    def _renew(self, now: float) -> float:
        """Resources at the end of their time, and those that nobody has used for long; when the
        next one will be."""
        manager, core, o = self.manager, self.core, self.options
        next_at = INF
        live = manager.live()
        for index, state, since, dies_at, _, _, retire in core.slots():
            if retire or state not in ("idle", "leased") or index in manager.renewing:
                continue
            why = _policy.expiry(now, since if state == "idle" else now, dies_at, o.idle_timeout)
            if why == "idle" and live > manager.least:
                manager.drain(index, why, later=True)
                live -= 1
            elif why is not None:
                manager.renew(index, why)
            else:
                next_at = min(next_at, dies_at, max(since, now) + o.idle_timeout)
                if state == "idle":
                    next_at = min(next_at, since + o.idle_timeout)
        return next_at

    def _abort(self, now: float) -> float:
        """What still uses a resource that takes no more leases is ended after ``drain_timeout``."""
        core, o = self.core, self.options
        if o.abort is None:
            return INF
        before, self.draining = self.draining, {}
        for index, state, *_, retire in core.slots():
            if state != "leased" or not retire:
                continue
            which = index, core.generation(index)
            at = before.get(which, now + o.drain_timeout)
            if at <= now:
                at = INF
                self.end_uses(core.item(index))
            self.draining[which] = at
        return min(self.draining.values(), default=INF)

    def end_uses(self, resource: Any) -> None:
        self.manager.closers.submit(self._call_abort, resource)

    def _call_abort(self, resource: Any) -> None:
        """On a worker."""
        try:
            if resource is not None and self.options.abort is not None:
                self.options.abort(resource)
        except Exception as failure:
            self.manager.log("abort failed", failure)

    def _shrink(self, now: float) -> float:
        """One resource goes when all that was under way at any time of the last period would have
        had room in the others."""
        manager, core = self.manager, self.core
        live = [s for s in core.slots() if s[1] in ("idle", "leased") and not s[6]]
        after = manager.shrink_after
        few = not live or len(live) + manager.live_elsewhere() <= manager.least
        if few or after == INF:
            self.look_at = INF
            return INF
        if now >= self.look_at or self.look_at == INF:
            peaks = sum(core.peak(slot[0]) for slot in live)
            if self.look_at != INF and peaks <= (len(live) - 1) * manager.slots:
                spare = min(live, key=lambda slot: (core.load(slot[0]), -slot[0]))
                manager.drain(spare[0], "surplus", later=True)
            self.look_at = now + after
        return self.look_at
