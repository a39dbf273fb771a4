"""What users install: the wheel, built from the source distribution, in an empty environment.

Nothing here sees the checkout: the sdist is unpacked elsewhere and the child interpreters run in
another folder, isolated.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.process,
    pytest.mark.once,  # each interpreter builds in place; wheels.yml tries the wheel of each
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (ROOT / "setup.py").exists(), reason="an installed fastpool has no build files"
    ),
]

MEGABYTE = 1_000_000


def run(*command: str | Path, cwd: Path) -> str:
    """Run a child that knows nothing of this process's build switches and paths."""
    ours = ("FASTPOOL_", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("Cython")
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", out, ROOT, cwd=out)
    (path,) = out.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def release(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it is published, which takes a minute of compiling."""
    work = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "tarfile", "-e", sdist, work, cwd=work)
    source = work / sdist.name.removesuffix(".tar.gz")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", work, source, cwd=work)
    (path,) = work.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a debug build, made without Cython: the same files."""
    work = tmp_path_factory.mktemp("debug-wheel")
    name = backend(unpacked, work / "alone", f"build_wheel({str(work)!r})")
    return work / name


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an empty environment with nothing but the wheel in it."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=wheel.parent)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=wheel.parent)
    return python


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("without-cython")
    run(sys.executable, "-m", "tarfile", "-e", sdist, work, cwd=work)
    return work / sdist.name.removesuffix(".tar.gz")


def backend(source: Path, folder: Path, call: str) -> str:
    """What a hook of the build backend returns where setuptools is installed and nothing else."""
    if not folder.exists():
        folder.mkdir()
        site = Path(pytest.importorskip("setuptools").__file__).parent.parent
        for part in ("setuptools", "_distutils_hack", "setuptools-*.dist-info"):
            (found,) = site.glob(part)
            (folder / found.name).symlink_to(found)
    program = f"""
import os, sys
sys.path.insert(0, {str(folder)!r})
os.environ["FASTPOOL_DEBUG"] = "1"  # which compiles in half the time
from setuptools import build_meta
try:
    import Cython
    raise SystemExit("Cython is here")
except ImportError:
    pass
print(build_meta.{call})
"""
    return run(sys.executable, "-I", "-S", "-c", program, cwd=source).splitlines()[-1]


@pytest.mark.long
def test_installing_the_sdist_needs_no_cython(unpacked: Path, wheel: Path, tmp_path: Path) -> None:
    """The C that it ships is compiled, and works."""
    assert backend(unpacked, tmp_path / "alone", "get_requires_for_build_wheel()") == "[]"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "there")
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'there')!r}); import fastpool; "
    program += "pool = fastpool.FastPool(1); pool.put('a'); print(pool.get())"
    assert run(sys.executable, "-I", "-S", "-c", program, cwd=tmp_path) == "a\n"


def test_c_that_is_older_than_its_source_is_made_anew(unpacked: Path, tmp_path: Path) -> None:
    """Who changes the source of an sdist is asked for Cython."""
    source = unpacked / "src/fastpool/core/core.pxi"
    before = source.stat()
    os.utime(source, (before.st_atime, (unpacked / "src/fastpool/_core.c").stat().st_mtime + 10))
    try:
        needed = backend(unpacked, tmp_path / "alone", "get_requires_for_build_wheel()")
    finally:
        os.utime(source, (before.st_atime, before.st_mtime))
    assert needed.startswith("['cython>=")


def version() -> str:
    """The one place where the version stands."""
    tree = ast.parse((ROOT / "src/fastpool/__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return ast.literal_eval(node.value)
    raise AssertionError("no __version__ in fastpool/__init__.py")


def test_the_sdist_holds_what_builds_and_tests_it(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    package = ROOT / "src/fastpool"
    sources = [path for path in package.rglob("*") if path.suffix in (".py", ".pyx", ".pxi", ".h")]
    needed = {str(path.relative_to(ROOT)) for path in sources}
    needed |= {"pyproject.toml", "setup.py", "Makefile", "LICENSE", "tests/conftest.py"}
    needed |= {"src/fastpool/py.typed", "src/fastpool/_core.c", "tools/run_tests.py"}
    assert not needed - names
    assert not [name for name in names if re.search(r"\.(so|pyd|pyc|o)$|(^|/)build/|^\.venv", name)]


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "fastpool/py.typed" in names
    assert "fastpool/_core.pyi" in names
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    assert len([name for name in names if re.fullmatch(r"fastpool/_core\..*(so|pyd)", name)]) == 1
    wanted = r"fastpool/.+\.(py|pyi|typed|so|pyd|html|css|js|lua)|fastpool-[^/]+\.dist-info/.+"
    assert not [name for name in names if not re.fullmatch(wanted, name)]
    wanted_there = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("page.*")]
    wanted_there += (ROOT / "src").rglob("*.lua")
    assert not {str(path.relative_to(ROOT / "src")) for path in wanted_there} - names


@pytest.mark.long
def test_the_wheel_is_small(release: Path) -> None:
    assert release.stat().st_size <= MEGABYTE


def test_the_wheel_needs_nothing_at_run_time(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        metadata = archive.read(name).decode()
    requirements = re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE)
    assert not [each for each in requirements if "extra ==" not in each]
    assert f"\nVersion: {version()}\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata


def test_the_installed_package_works(installed: Path, tmp_path: Path) -> None:
    program = """
import fastpool, sysconfig
pool = fastpool.FastPool(2)
pool.put("a")
assert pool.get() == "a"
with fastpool.FastPool(1, factory=object) as pool, pool.lease() as resource:
    assert type(resource) is object
print(fastpool.__version__, fastpool.__file__, sep="\\n")
"""
    number, path = run(installed, "-I", "-c", program, cwd=tmp_path).splitlines()
    assert number == version()
    assert Path(path).is_relative_to(installed.parent.parent)


def test_the_installed_command_starts(installed: Path, tmp_path: Path) -> None:
    command = installed.with_name("fastpool.exe" if os.name == "nt" else "fastpool")
    assert "demo" in run(command, "--help", cwd=tmp_path)
    assert "demo" in run(installed, "-I", "-m", "fastpool", "--help", cwd=tmp_path)
