"""SPIN walks every interleaving of the models in spin/; each mutant of a model must be found.

A model whose mutants pass proves nothing, so both directions are tests. The models are sequentially
consistent; what weak orderings can do is ThreadSanitizer's part (run.py).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODELS = Path(__file__).resolve().parent / "spin"

pytestmark = [
    pytest.mark.process,
    pytest.mark.once,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not shutil.which("spin"), reason="spin is not installed"),
    pytest.mark.skipif(not shutil.which("gcc"), reason="spin's verifier wants gcc"),
]

PROOFS = [
    "ring",
    "slots THREADS=2",
    "slots ROUNDS=1",
    "waiters ROUNDS=1",
    "waiters ROUNDS=1 FAIR",
    "waiters ROUNDS=1 ITEMS=2",
    "creation",
    "creation LIMIT=2",
    "budget",
]
LONG_PROOFS = ["waiters FAIR", "creation ROUNDS=2", "budget REQUESTS=3", "budget LIMIT=2"]

MUTANTS = [
    "ring ONE_STAMP",
    "ring FREE_FIRST",
    "slots TWICE",
    "slots KEEP",
    "slots LATE",
    "waiters NO_LOOK",
    "waiters EARLY_GATE",
    "waiters LATE_BITS",
    "waiters DROP",
    "waiters KEEP_NOTICE ROUNDS=1",
    "waiters SILENT",
    "creation NO_COMING",
    "creation NO_RESTART",
    "creation NO_PLACE",
    "creation KEPT",
    "budget EARLY_END",
    "budget LATE_LEASE",
    "budget NO_NUMBER",
    "budget GIVE_LATER",
    "budget NO_LEARN",
    "budget SHORT_LEARN",
    "budget STALE_CLAIM",
    "budget BELIEVE",
    "budget OLD_NOTE",
]


def verify(what: str, folder: Path, optimise: str = "-O1") -> tuple[int, str]:
    """How many errors `model DEFINE ...` has, 1 being enough to end the search; the report."""
    model, *defines = what.split()
    source = MODELS / f"{model}.pml"
    spin = ["spin", "-a", *(f"-D{define}" for define in defines), str(source)]
    subprocess.run(spin, cwd=folder, check=True, capture_output=True)
    compile_ = [
        "gcc",
        optimise,
        "-w",
        "-DSAFETY",
        "-DCOLLAPSE",
        "-DMEMLIM=2000",
        "-o",
        "pan",
        "pan.c",
    ]
    subprocess.run(compile_, cwd=folder, check=True)
    done = subprocess.run(["./pan", "-m1000000"], cwd=folder, capture_output=True, text=True)
    report = done.stdout + done.stderr
    errors = re.search(r"errors: (\d+)", report)
    assert errors, report
    return int(errors[1]), report


def assert_proved(what: str, folder: Path) -> None:
    errors, report = verify(what, folder)
    assert not errors, report
    for word in ("not completed", "max search depth too small", "out of memory"):
        assert word not in report, report


@pytest.mark.parametrize("what", PROOFS)
def test_no_interleaving_goes_wrong(what: str, tmp_path: Path) -> None:
    """No assertion fails, and nobody is left waiting, in any interleaving."""
    assert_proved(what, tmp_path)


@pytest.mark.parametrize("what", LONG_PROOFS)
def test_no_interleaving_of_more_steps_goes_wrong(what: str, tmp_path: Path) -> None:
    """The same with more rounds: millions of states."""
    assert_proved(what, tmp_path)


@pytest.mark.parametrize("what", MUTANTS)
def test_the_model_finds_the_mistake(what: str, tmp_path: Path) -> None:
    """The mistake named by the define leads to an error."""
    errors, _ = verify(what, tmp_path, "-O0")  # it is found sooner than -O1 has compiled
    assert errors


def test_every_mutant_of_the_models_is_tried() -> None:
    """The list above has every define that a model names under `Mutants:`."""
    named = set()
    for source in MODELS.glob("*.pml"):
        listed = source.read_text().split("*/")[0].split("Mutants:")[1]
        names = re.findall(r"^(?: \*)? +([A-Z_]+) {2,}", listed, re.MULTILINE)
        named |= {f"{source.stem} {name}" for name in names}
    assert named == {" ".join(mutant.split()[:2]) for mutant in MUTANTS}
