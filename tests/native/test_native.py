"""The core's C headers, driven by threads without Python: see run.py and harness.c."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from native import run as native  # beside this file
from support.helpers import QUICK

pytestmark = [
    pytest.mark.process,
    pytest.mark.once,  # a stand-in takes the place of Python
    pytest.mark.skipif(native.compiler() is None, reason="there is no C compiler"),
    pytest.mark.skipif(sys.platform == "win32", reason="the harness uses POSIX threads"),
]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of the suite at once must not build into one folder."""
    monkeypatch.setattr(native, "BUILD", tmp_path)


@pytest.mark.parametrize("flavour", ["plain", pytest.param("perturbed", marks=pytest.mark.light)])
def test_the_accounts_balance(flavour: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every test of the harness, a moment each, as it is and with a perturbed schedule."""
    seconds = 0.02 if QUICK else 0.2
    flags = {"plain": native.PLAIN, "perturbed": native.PERTURBED}[flavour]
    well = native.clean(flavour, native.build(flavour, flags), seconds, seed=1)
    assert well, capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_harness_finds_every_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """Copies of the headers with one mistake each; a harness that passes them proves nothing."""
    missed = [mutant.name for mutant in native.MUTANTS if not mutant.tsan and not _found(mutant)]
    assert not missed, capsys.readouterr().out


def _found(mutant: native.Mutant) -> bool:
    program = native.build("mutant", native.PERTURBED, native.mutate(mutant))
    return native.found(mutant.name, program, mutant.tests, seed=1, tsan=False)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_sanitizer_is_silent_and_awake(capsys: pytest.CaptureFixture[str]) -> None:
    """No race in the headers, and the copy with one ordering weakened is caught."""
    try:
        program = native.build("tsan", native.TSAN)
    except subprocess.CalledProcessError:
        pytest.skip("the compiler has no ThreadSanitizer")
    weakened = native.build("weakened", [*native.TSAN, native.WEAKENED])
    well = native.clean("ThreadSanitizer", program, 0.2, seed=1, tsan=True)
    well &= native.found("weakened", weakened, ("ring",), seed=1, tsan=True)
    assert well, capsys.readouterr().out


def test_a_mutant_whose_text_is_gone_is_loud() -> None:
    """When the source moves on, a mutant that no longer applies is an error, not a pass."""
    stale = native.Mutant("stale", "core/storage/ring.h", "no such text", "", ("ring",))
    with pytest.raises(LookupError, match="0 times"):
        native.mutate(stale)


@pytest.mark.parametrize("mutant", native.MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_applies(mutant: native.Mutant) -> None:
    """The quick half of finding it: the text that it replaces is there, once."""
    native.mutate(mutant)
