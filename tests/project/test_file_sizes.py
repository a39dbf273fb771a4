"""No source file is longer than one can hold in the head."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.once  # reads sources

PACKAGE = Path(__file__).resolve().parents[2] / "src/fastpool"

#: Lines at most, by suffix.
CAPS = {".py": 400, ".pyx": 600, ".pxi": 600, ".h": 600}

#: What is longer, and why. The stub of the compiled module is one file by nature, and not counted.
LONGER: dict[str, str] = {}


def sizes() -> dict[str, int]:
    return {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines())
        for path in sorted(PACKAGE.rglob("*"))
        if path.suffix in CAPS
    }


@pytest.mark.parametrize("suffix", CAPS)
def test_no_file_is_over_its_cap(suffix: str) -> None:
    over = {
        name: lines
        for name, lines in sizes().items()
        if name.endswith(suffix) and lines > CAPS[suffix] and name not in LONGER
    }
    assert not over, f"more than {CAPS[suffix]} lines: split by idea, or give the reason: {over}"


def test_each_exception_is_still_one() -> None:
    found = sizes()
    short = [name for name in LONGER if found.get(name, 0) <= CAPS[Path(name).suffix]]
    assert not short, f"no longer over the cap: {short}"
