"""No loop ends outside of the `try` that it stands in.

CPython 3.12 and 3.13 compile the end of a loop to a jump back, and where a condition stands in
front of it they leave that jump out of the table of the `try` around it. Signal handlers run at
jumps back, so what one of them raises there passes by the `except` and the `finally`.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import fastpool

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] not in ((3, 12), (3, 13)), reason="3.12 and 3.13 compile loops so"
)

HOME = Path(fastpool.__file__).parent

#: Commands, and what tests import: nothing goes on after a signal there.
LEFT_OUT = {"cli", "testing"}

#: Functions that may have one, and why.
ALLOWED = {
    "_part_with": "runs in threads of the pool's own",
    "_look_on": "the thread of a budget",
    "_drain": "the thread of a budget",
    "_read": "the thread of a budget",
    "_run": "a thread of the channel's own",
    "watch": "catches what the call raises, and no handler's exception",
    "_flush": "catches what the socket raises, and no handler's exception",
    "_of_resource": "catches what a resource raises, and no handler's exception",
    "_unpacked": "catches what the decoder raises, and no handler's exception",
}

NEEDED = """
def wait(ready, undo):
    try:
        while not ready():
            undo()
    except BaseException:
        undo()
        raise
"""


def codes_in(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


def loops_out_of_try(code: CodeType) -> Iterator[int]:
    """The lines of the conditions whose jumps back have not the handler that they have."""
    instructions = list(dis.get_instructions(code))
    at = {each.offset: i for i, each in enumerate(instructions)}
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]

    def handler(offset: int) -> int | None:
        return next((entry.target for entry in table if entry.start <= offset < entry.end), None)

    def is_written(target: int) -> bool:
        """An `except` or a `finally`: what a `with` has taken goes with its guard, and the rest
        the compiler has made up."""
        first, second = instructions[at[target] : at[target] + 2]
        return first.opname == "PUSH_EXC_INFO" and second.opname != "WITH_EXCEPT_START"

    before = instructions[0]
    for each in instructions:
        if each.opname in ("EXTENDED_ARG", "NOT_TAKEN", "CACHE"):
            continue
        if each.opname == "JUMP_BACKWARD" and "JUMP_IF" in before.opname:
            around = handler(before.offset)
            if around is not None and around != handler(each.offset) and is_written(around):
                yield (before.positions.lineno if before.positions else None) or 0
        before = each


def test_it_is_seen() -> None:
    found = [
        line for code in codes_in(compile(NEEDED, "", "exec")) for line in loops_out_of_try(code)
    ]
    assert found == [4]


def test_no_loop_ends_outside_of_its_try() -> None:
    wrong = [
        f"{path.relative_to(HOME)}:{line} {code.co_name}"
        for path in sorted(HOME.rglob("*.py"))
        if path.relative_to(HOME).parts[0] not in LEFT_OUT
        for code in codes_in(compile(path.read_text("utf-8"), str(path), "exec", dont_inherit=True))
        if code.co_exceptiontable and code.co_name not in ALLOWED
        for line in loops_out_of_try(code)
    ]
    assert not wrong, "write `while True:` and leave by `break`:\n" + "\n".join(wrong)
