"""Pools of MySQL connections by Django's aliases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .... import FastPool

__all__ = ["make_pool"]

#: What ``OPTIONS["pool"]`` may have: the names and the defaults of psycopg_pool, and two of ours.
OPTIONS: dict[str, Any] = {
    "min_size": 4,
    "max_size": None,
    "timeout": 30.0,
    "max_waiting": 0,
    "max_lifetime": 3600.0,
    "max_idle": 600.0,
    "num_workers": 3,
    "name": None,
    "fairness": "fair",
    "leak_after": None,
}


def make_pool(given: dict[str, Any], make: Callable[[], Any], checked: bool) -> FastPool[Any]:
    """A pool that is not open yet.  ImproperlyConfigured for options that cannot be."""
    if unknown := given.keys() - OPTIONS.keys():
        raise ImproperlyConfigured(
            f"OPTIONS['pool'] of fastpool.contrib.django.mysql has no {sorted(unknown)}; "
            f"it may have {sorted(OPTIONS)}"
        )
    o = OPTIONS | given
    max_size = o["min_size"] if o["max_size"] is None else o["max_size"]
    try:
        return FastPool(
            max_size,
            factory=make,
            check=ping if checked else None,
            min_size=o["min_size"],
            timeout=o["timeout"],
            max_waiting=o["max_waiting"] or None,
            max_lifetime=o["max_lifetime"],
            idle_timeout=o["max_idle"],
            max_creating=o["num_workers"],
            fairness=o["fairness"],
            leak_after=o["leak_after"],
            name=o["name"],
            open=False,
            warn_unclosed=False,
        )
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"OPTIONS['pool']: {error}") from error


def ping(connection: Any) -> None:
    """Without connecting anew, which PyMySQL would do unless told: a new session lacks what was set
    in the old one."""
    connection.ping(False)
