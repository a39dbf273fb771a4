"""The page on moving from another pool leaves out none of its options, and invents none of ours."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from fastpool.contrib.dbapi import Pool
from fastpool.keyed import _options as keyed
from fastpool.pool._options import NAMES

PAGE = Path(__file__).resolve().parents[3] / "docs/howto/migrate.md"
SECTIONS = dict(re.findall(r"^## (.+)\n([^#]*(?:#(?!# )[^#]*)*)", PAGE.read_text(), re.MULTILINE))

#: Section: classes whose constructors have the options.
THEIRS = {
    "DBUtils": ["dbutils.pooled_db.PooledDB"],
    "SQLAlchemy's QueuePool": ["sqlalchemy.pool.QueuePool", "sqlalchemy.pool.Pool"],
    "redis-py": ["redis.BlockingConnectionPool", "redis.ConnectionPool"],
    "generic-connection-pool": [
        "generic_connection_pool.threading.ConnectionPool",
        "generic_connection_pool.common.BaseConnectionPool",
    ],
    "asyncio.Queue": ["asyncio.Queue"],
}
OURS = {*NAMES, *keyed.LIMITS, *inspect.signature(Pool.__init__).parameters, "maxsize"}
NOT_OURS = {"pool_size", "max_overflow", "reason", "database"}


def rows(section: str) -> list[list[str]]:
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def options_of(name: str) -> set[str]:
    module, _, kind = name.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), kind)
    except ImportError:
        pytest.skip(f"{module} is not installed")
    parameters = inspect.signature(found.__init__).parameters.values()
    taken = [each for each in parameters if each.name not in ("self", "kw", "kwargs")]
    return {each.name for each in taken if not each.name.startswith("_")}


@pytest.mark.parametrize("section", THEIRS)
def test_every_option_of_theirs_has_a_row(section: str) -> None:
    told = set(re.findall(r"\w+", " ".join(row[0] for row in rows(section))))
    for name in THEIRS[section]:
        assert not options_of(name) - told, f"{name} has more options"


@pytest.mark.parametrize("kind", ["ConnectionPool", "AsyncConnectionPool"])
def test_every_option_of_psycopg_pool_has_a_row_on_its_own_page(kind: str) -> None:
    table = re.search(
        r"^\| psycopg_pool .*?\n\n", PAGE.with_name("psycopg.md").read_text(), re.M | re.S
    )
    assert table is not None
    cells = [line.split(" | ")[0] for line in table[0].splitlines() if line.startswith("| ")]
    told = set(re.findall(r"\w+", " ".join(cells)))
    assert not options_of(f"psycopg_pool.{kind}") - told


@pytest.mark.parametrize("section", [*THEIRS, "HikariCP"])
def test_options_of_ours_are_options(section: str) -> None:
    """Those that stand there with a value."""
    named = {
        word
        for row in rows(section)
        for cell in row[1:-1]
        for word in re.findall(r"`(?:[^`]*[(, ])?(\w+)=", cell)
    }
    # keywords of methods stand there as well
    assert named - OURS - NOT_OURS <= {"idle_only", "wait", "leak_after"}, section


def test_all_sections_are_asked() -> None:
    assert {*THEIRS, "HikariCP"} == {*SECTIONS}
