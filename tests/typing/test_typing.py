"""The stubs serve mypy and pyright: typed examples pass, marked mistakes are found."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MARKED = {
    number
    for number, line in enumerate((HERE / "mistakes.py").read_text().splitlines(), 1)
    if line.endswith("# error")
}

pytestmark = [pytest.mark.process, pytest.mark.once, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy has read already, of this run alone."""
    return f"--cache-dir={tmp_path_factory.mktemp('mypy')}"


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec(tool.partition(".")[0]) is None:
        pytest.skip(f"{tool} is not installed for {sys.executable}")
    return subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True
    )


def _mypy(path: Path, cache: str) -> subprocess.CompletedProcess[str]:
    config = ("--config-file", str(ROOT / "pyproject.toml"))
    return _run("mypy", *config, "--strict", "--no-error-summary", cache, str(path))


def _pyright(*paths: Path) -> list[str]:
    project = ("--project", str(ROOT / "pyproject.toml"))
    done = _run("pyright", "--outputjson", *project, *map(str, paths))
    if not done.stdout.lstrip().startswith("{"):
        pytest.skip(f"pyright does not run here: {(done.stderr or done.stdout).strip()[-200:]}")
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [one for one in found if one["severity"] == "error"]
    return [f"{one['range']['start']['line'] + 1}: {one['message']}" for one in errors]


def test_both_accept_the_package(cache: str) -> None:
    """All that pyproject.toml has them look at, as `make lint` does."""
    done = _run("mypy", "--no-error-summary", cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _pyright() == []


def test_mypy_accepts_the_examples(cache: str) -> None:
    """`mypy --strict` infers every type that the examples assert."""
    done = _mypy(HERE / "api.py", cache)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_finds_the_mistakes(cache: str) -> None:
    """Each marked line is reported and no other."""
    done = _mypy(HERE / "mistakes.py", cache)
    found = {int(line) for line in re.findall(r"mistakes\.py:(\d+): error", done.stdout)}
    assert found == MARKED, done.stdout + done.stderr


def test_pyright_accepts_the_examples() -> None:
    """pyright infers every type that the examples assert."""
    assert _pyright(HERE / "api.py") == []


def test_pyright_finds_the_mistakes() -> None:
    """Each marked line is reported and no other."""
    found = _pyright(HERE / "mistakes.py")
    assert {int(line.split(":")[0]) for line in found} == MARKED, "\n".join(found)


def test_the_stub_says_what_the_compiled_module_has() -> None:
    """`stubtest` compares names, parameters and defaults; stubtest.txt lists what is meant."""
    lenient = ("--ignore-disjoint-bases", "--ignore-positional-only")
    allowed = ("--allowlist", str(HERE / "stubtest.txt"))
    config = ("--mypy-config-file", str(ROOT / "pyproject.toml"))
    done = _run("mypy.stubtest", "fastpool._core", "--concise", *lenient, *allowed, *config)
    assert done.returncode == 0, done.stdout + done.stderr
