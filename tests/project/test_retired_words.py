"""The words of the glossary alone: none of those that it has replaced is part of a name.

A name is an identifier in the code of Python, Cython and C, or the name of a file; its parts are
what stands between underscores, capitals and dots.  Comments, docstrings and messages are not
looked at.  RETIRED are metaphors, and words that had several meanings; in tests and benches, whose
names are sentences, only the nouns among them are wrong.  An entry of ALLOWED says where a word has
its plain meaning, and which.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.once  # reads sources

ROOT = Path(__file__).resolve().parents[2]

#: Word: what is said instead; see docs/explanation/glossary.md.
RETIRED = {
    "hand": "slot guard",
    "lane": "dispatcher",
    "crew": "group, runner",
    "place": "slot, permit, capacity, position",
    "door": "fast method",
    "bell": "wakeup descriptor",
    "face": "async methods, kind of caller",
    "books": "accounts, arbiter",
    "judge": "checker, outcome",
    "errand": "offloaded call",
    "housekeeper": "scheduler",
    "housekeeping": "maintenance",
    "housekept": "scheduler",
    "keeper": "scheduler",
    "excuse": "replace a stuck worker",
    "room": "capacity",
}
#: These are wrong in the package alone: elsewhere they are verbs, or lines of text.
RETIRED_IN_SRC = {
    "told": "notified",
    "tell": "notify",
    "telling": "notifying",
    "line": "wait queue",
    "lined": "queued",
    "branch": "key pool",
    "home": "core of a loop",
    "turn": "exchange, run, round trip, priority",
    "come": "announce",
    "coming": "arriving, pending",
    "came": "on_...",
    "settle": "give back, complete, apply, wait until idle",
    "settled": "ended, applied",
    "rope": "descriptor to write to",
    "ear": "descriptor to read from",
    "hear": "drain, on_...",
    "heard": "answered",
    "poke": "call soon",
    "tend": "maintain",
    "shun": "penalize",
    "latch": "closed flag",
    "carrier": "connection",
    "rival": "competitor",
    "cut": "scope, error",
    "bare": "starved",
    "wish": "background demand",
    "parted": "on_closing",
    "forsake": "on_loop_closed",
}

#: (names, paths, why): patterns of fnmatch.
ALLOWED = [
    ("*hand_over*", "*", "gives what is left to another, in plain English"),
    ("*hand_off*", "*", "the field's own word"),
    ("*hands_over*", "*", "likewise"),
    ("*take*_the_place*", "tests/*", "stands where another stood, in plain English"),
    ("*takes_its_place*", "tests/*", "likewise"),
    ("*in_*_place*", "tests/*", "likewise"),
    ("*in_place_of*", "tests/*", "likewise"),
    ("*tell*_the_place*", "tests/*", "of the source, where a lease was taken"),
    ("*by_hand*", "*", "done by the user, in plain English"),
    ("made_by_hand.py", "*", "likewise"),
    ("*CACHE_LINE*", "*", "a line of a processor's cache"),
    ("__LINE__", "*", "C's"),
    ("line", "src/fastpool/cli/*", "a line of text"),
    ("*lines", "src/fastpool/*.py", "lines of text"),
    ("_line", "src/fastpool/cli/tables.py", "a line of text"),
    ("_line", "src/fastpool/cli/top/plain.py", "a line of text"),
    ("*[pP]lace", "src/fastpool/cli/top/*", "of the source, where a lease was taken"),
    ("*[pP]laces", "src/fastpool/cli/top/*", "likewise"),
    ("*PLACES", "src/fastpool/cli/top/*", "likewise"),
    ("place*", "tests/integration/top/*", "likewise"),
    ("put_in_place", "tools/*", "in plain English"),
    ("line", "src/fastpool/debug/*", "a line of text: one request, one answer"),
    ("take_line", "src/fastpool/debug/*", "likewise"),
    ("home", "src/fastpool/core/storage/slot_table.h", "where a hash says that an entry belongs"),
    ("settle", "src/fastpool/testing/clock.py", "public: an argument of ManualClock.advance"),
]


def parts(name: str) -> set[str]:
    """``fp_wait_queue``, ``WaitQueue`` and ``wait-queue.md`` alike: wait, queue."""
    found = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+", name)
    return {one.lower() for one in found}


C_TEXT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
PYTHON_TEXT = re.compile(
    r'"""(?:\\.|.)*?"""|\'\'\'(?:\\.|.)*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*',
    re.DOTALL,
)
VERBATIM_C = re.compile(r'cdef extern from \*:\s*"""(.*?)"""', re.DOTALL)
CODE = (".py", ".pyi", ".pyx", ".pxi", ".h", ".c")


def names_of(path: Path) -> set[str]:
    """Of the file itself, and the identifiers in its code."""
    if path.suffix not in CODE:
        return {path.name}
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".h", ".c"):
        code = C_TEXT.sub(" ", text)
    else:
        verbatim = VERBATIM_C.findall(text) if path.suffix in (".pyx", ".pxi") else []
        code = PYTHON_TEXT.sub(" ", text) + " ".join(C_TEXT.sub(" ", one) for one in verbatim)
    return {path.name, *re.findall(r"[A-Za-z_]\w*", code)}


@cache
def suspects() -> list[tuple[str, str, str]]:
    """(path, name, the retired words in it)"""
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    everywhere, in_src = with_plurals({*RETIRED}), with_plurals({*RETIRED, *RETIRED_IN_SRC})
    found = []
    for path in listed.stdout.splitlines():
        if path.startswith(TOPS) and (ROOT / path).exists():
            words = in_src if path.startswith("src/") else everywhere
            for name in names_of(ROOT / path):
                if wrong := parts(name) & words:
                    found.append((path, name, ", ".join(sorted(wrong))))
    return sorted(found)


TOPS = ("src/", "tests/", "bench/", "tools/", "examples/")


def with_plurals(words: set[str]) -> set[str]:
    return words | {f"{word}s" for word in words} | {f"{word}es" for word in words}


def reasons(path: str, name: str) -> Iterator[int]:
    for i, (names, paths, _) in enumerate(ALLOWED):
        if fnmatchcase(name, names) and fnmatchcase(path, paths):
            yield i


def test_no_name_has_a_retired_word() -> None:
    """What is meant is said in RETIRED."""
    wrong = [
        f"{path}: {name} ({words})"
        for path, name, words in suspects()
        if not any(True for _ in reasons(path, name))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_reason_has_a_name() -> None:
    """An entry of ALLOWED that fits nothing any more goes."""
    used = {i for path, name, _ in suspects() for i in reasons(path, name)}
    assert [entry for i, entry in enumerate(ALLOWED) if i not in used] == []
