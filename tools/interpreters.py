"""Find the Python interpreters of this machine: on PATH, in pyenv, in the unpacked toolchain, or
among Debian's packages.

An interpreter is named by its label: "3.12", or "3.13t" for a free-threaded build.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import debian

ROOT = Path(__file__).resolve().parent.parent

#: What `make test-all` covers: all that fastpool is configured for.
ALL = ("3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t", "3.15", "3.15t")

#: A script that unpacks free-threaded builds and prints their paths, the ThreadSanitizer one last.
TOOLCHAIN = Path(os.environ.get("FASTPOOL_TOOLCHAIN", ROOT.parent / "shared/toolchain/install"))

PROBE = """
import importlib.util, json, os, platform, sys, sysconfig
var = sysconfig.get_config_var
free_threaded = bool(var("Py_GIL_DISABLED"))
print(json.dumps({
    "path": os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable),
    "version": platform.python_version() + "t" * free_threaded,
    "label": "%d.%d" % sys.version_info[:2] + "t" * free_threaded,
    "cpython": sys.implementation.name == "cpython",
    "tsan": "--with-thread-sanitizer" in (var("CONFIG_ARGS") or ""),
    "headers": os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
    "venv": bool(importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")),
    "cc": var("CC") or "",
}))
"""


@dataclass(frozen=True)
class Interpreter:
    path: Path
    version: str
    label: str
    cpython: bool
    tsan: bool
    headers: bool
    venv: bool
    cc: str
    #: What stands before each of its commands: it may run in a file system of its own.
    prefix: tuple[str, ...] = ()

    @property
    def free_threaded(self) -> bool:
        return self.label.endswith("t")

    @property
    def lack(self) -> str:
        """What this interpreter lacks to build and test fastpool; "" when nothing."""
        bare = self.label.removesuffix("t")
        if not self.cpython:
            return "fastpool is for CPython"
        if tuple(map(int, bare.split("."))) < (3, 11):
            return f"Python {self.version} is too old, fastpool needs 3.11"
        lacks = {
            f"python{bare}-dev": "" if self.headers else "no Python.h",
            f"python{bare}-venv": "" if self.venv else "no venv module",
            "gcc libc6-dev": "" if self.compiler else "no C compiler",
        }
        if not any(lacks.values()):
            return ""
        packages = " ".join(package for package, lack in lacks.items() if lack)
        return f"{', '.join(filter(None, lacks.values()))}; Debian has it in: {packages}"

    @property
    def compiler(self) -> str:
        """$CC, else the compiler that built the interpreter, else any that is there."""
        if os.name == "nt":
            return "cl"  # setuptools finds it where it is installed, which is not on PATH
        if self.prefix:
            return "gcc"  # unpacked with it
        for candidate in (os.environ.get("CC"), self.cc, "cc", "gcc", "clang"):
            if candidate and shutil.which(candidate.split()[0]):
                return candidate
        return ""


@cache
def probe(path: Path, prefix: tuple[str, ...] = ()) -> Interpreter | None:
    """What the interpreter says of itself; None when it does not run (a pyenv shim, say)."""
    try:
        command = [*prefix, path, "-c", PROBE]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        answer = json.loads(run.stdout)
        return Interpreter(path=Path(answer.pop("path")), prefix=prefix, **answer)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def default() -> Interpreter:
    """The interpreter that runs this script; its base where that is a virtual environment."""
    found = probe(Path(sys.executable))
    if found is None:
        sys.exit(f"{sys.executable} does not run")
    return found


def pyenv_folders() -> Iterator[Path]:
    """Where pyenv keeps versions: its variable, the home, or beside its shims on PATH."""
    roots = [os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv"]
    roots += [Path(entry).parent for entry in os.get_exec_path() if entry.endswith("shims")]
    for root in dict.fromkeys(Path(root) for root in roots if root):
        yield root / "versions"


@cache
def toolchain() -> tuple[Path, ...]:
    """The interpreters of the toolchain, unpacked on first use: (free-threaded, TSan) or ()."""
    if not os.access(TOOLCHAIN, os.X_OK):
        return ()
    run = subprocess.run([TOOLCHAIN], stdout=subprocess.PIPE, text=True)
    return tuple(map(Path, run.stdout.split())) if run.returncode == 0 else ()


def candidates(label: str) -> Iterator[Path]:
    for entry in os.get_exec_path():
        yield Path(entry) / f"python{label}"
    bare = label.removesuffix("t")
    for versions in pyenv_folders():
        patches = sorted(versions.glob(f"{bare}.*"), key=_patch_level, reverse=True)
        yield from (folder / "bin" / f"python{label}" for folder in patches)
    if label == "3.13t":
        yield from toolchain()[:1]


def _patch_level(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.name.removesuffix("t").split(".") if part.isdigit())


@cache
def find(label: str) -> Interpreter:
    """The first interpreter of that label that runs and lacks nothing; NotFound says why none."""
    reason = "not found on PATH or in pyenv"
    for path in candidates(label):
        if not path.exists():
            continue
        found = probe(path)
        if found and found.label == label and not found.tsan:
            if not found.lack:
                return found
            reason = f"{found.path}: {found.lack}"
    try:
        found = probe(Path(f"/usr/bin/python{label}"), debian.command(debian.system(label)))
    except debian.NotHad as missing:
        raise NotFound(f"{reason}; {missing}") from None
    if found is None or found.lack:
        raise NotFound(f"{reason}; Debian's package of it does not run here")
    return found


class NotFound(Exception):
    """There is no such interpreter; the text says where it was looked for and what is missing."""


def find_tsan() -> Interpreter | None:
    """A free-threaded CPython that was itself built with ThreadSanitizer."""
    given = os.environ.get("FASTPOOL_TSAN_PYTHON")
    for path in [Path(given)] if given else toolchain():
        found = probe(path)
        if found and found.tsan:
            return found
    return None
