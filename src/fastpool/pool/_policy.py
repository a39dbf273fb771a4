"""Pure decisions: expired, check, grow, back off.  Times are passed in, in seconds."""

from __future__ import annotations

from _random import Random

_random = Random()

# A lifetime is up to this share shorter, so that a fleet does not redial at once.
LIFETIME_JITTER = 0.1
BACKOFF_LEAST = 0.1
BACKOFF_MOST = 10.0
BACKOFF_WAITED_FOR = 1.0  # at most, while somebody waits for what the try is to make


def lifetime(most: float) -> float:
    """How long the resource just made may live: jittered, so that no two end together."""
    return most * (1 - LIFETIME_JITTER * _random.random())


def expiry(now: float, since: float, dies_at: float, idle_timeout: float) -> str | None:
    """Why an idle resource has to go, or None.  ``since``: when it was last returned."""
    if now >= dies_at:
        return "lifetime"
    if now - since >= idle_timeout:
        return "idle"
    return None


JUST_MADE = 0.05  # seconds; more than one step of the coarse clock, less than anybody's idle time


def needs_check(now: float, since: float, check_after: float, uses: int) -> bool:
    """Whether a resource has to be checked before it is lent.  The factory vouches for one that it
    has just made; ``check_after=0`` means before every other use."""
    idle = now - since
    return idle >= check_after and not (uses <= 1 and idle < JUST_MADE)


def attempts_wanted(goal: int, running: int, most: float) -> int:
    """How many more creations to start, where there is a use for ``goal`` and at most ``most``
    may be under way."""
    return max(0, int(min(goal, most)) - running)


def backoff(failures: int) -> float:
    """Seconds before the next background try after so many failures in a row; full jitter within
    the upper half, doubling from 100 ms to 10 s."""
    ceiling = min(BACKOFF_MOST, BACKOFF_LEAST * 2.0 ** min(failures - 1, 10))
    return ceiling * (0.5 + 0.5 * _random.random())


def backoff_waited_for(pause: float) -> float:
    """What is left of this pause, in seconds, while callers wait: a second at most, with the same
    jitter."""
    return min(pause, BACKOFF_WAITED_FOR * (0.5 + 0.5 * _random.random()))
