"""What `make mutants` goes by, and its own parts: the mutants themselves are for `make verify`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools/mutants.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mutants", module)
        spec.loader.exec_module(module)
    return module


def test_modules_and_their_tests_are_there(mutants: ModuleType) -> None:
    for module, tests in mutants.MODULES.items():
        assert (mutants.PACKAGE / module).is_file()
        assert [test for test in tests if not (ROOT / test).is_file()] == []


def test_listed_survivors_have_a_reason_and_stand_in_the_code(mutants: ModuleType) -> None:
    listed = mutants.listed(mutants.SURVIVORS.read_text())
    assert listed
    for key, reason in listed.items():
        assert len(reason) > 20 and mutants.stands(*key), key


def test_what_is_never_run_makes_no_mutant(mutants: ModuleType) -> None:
    text = "def f(a: int | None) -> int | None:\n    return a\n"
    assert mutants.what_runs(text) == mutants.what_runs(text.replace("|", "&"))
    assert mutants.what_runs(text) != mutants.what_runs(text.replace("return a", "return -a"))
    assert mutants.what_runs("def f(:") is None


def test_mutant_is_named_by_what_it_changes(mutants: ModuleType) -> None:
    text = "class A:\n    def f(self):\n        return 1 +  2\n"
    assert mutants.names_at(text)[3] == "A.f"
    assert mutants.changed(text, text.replace("1 +", "1 -")) == (3, "return 1 + 2", "return 1 - 2")
