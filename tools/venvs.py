"""Make and refresh the virtual environments, one an interpreter, and build fastpool in them.

    python3 tools/venvs.py EXTRA ...    make .venv ready with these extras; silent when it is

A ready environment costs nothing but the check of a stamp. The package is installed in place, so
that all environments share src/; the compiled modules lie there side by side, one an interpreter.
Several environments may be made ready at once, each in a thread; what they share they do in turn.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from interpreters import ROOT, Interpreter, default

PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")


#: Held while the shared C file is generated, and while pip writes the shared metadata.
_in_turn = threading.Lock()


class SetupError(Exception):
    """An environment could not be made; the text is for the user."""

    @property
    def summary(self) -> str:
        """Its first line that says ERROR, as pip writes them, else its first line."""
        lines = [line.strip() for line in str(self).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR", "error"))]
        return (errors or lines or ["no message"])[0]


class Venv:
    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        main = interpreter.path == default().path
        self.folder = ROOT / (".venv" if main else f".venv-{interpreter.label}")
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self._stamp = self.folder / "fastpool-stamp.json"

    def command(self, *arguments: str | Path) -> list[str | Path]:
        """A command line that runs its Python with these arguments."""
        return [*self.interpreter.prefix, self.python, *arguments]

    @property
    def site_packages(self) -> Path:
        return next(self.folder.glob("lib/python*/site-packages"))

    # -- making it ready --

    def ready(self, extras: Iterable[str], wished: Iterable[str] = ()) -> dict[str, str]:
        """Make the environment and install fastpool with these extras, as far as not done yet.

        Of the extras that are only `wished` for, those that cannot be had here are left out;
        returns why, extra by extra.
        """
        if lack := self.interpreter.lack:
            raise SetupError(f"{self.interpreter.path}: {lack}")
        made_for, installed, missing = self._read_stamp()
        identity = f"{self.interpreter.path} {self.interpreter.version}"
        if made_for[:1] != [identity] or not self._runs():
            self._create()
            installed, missing = set(), {}
        elif made_for[1:] != [requirements()]:
            installed, missing = set(), {}
        extras, wished = set(extras), set(wished)
        if extras <= installed and wished <= installed | missing.keys() and installed:
            return missing
        start = time.monotonic()
        self._install_build_tools()
        with ThreadPoolExecutor(1) as beside:  # pip waits for the network, the compiler does not
            built = beside.submit(self.build)
            installed, missing = self._install_all(installed | extras, wished - installed)
            built.result()
        with _in_turn:
            here = ("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
            self._pip("", *here, FASTPOOL_BUILT="1")
        self._say(f"ready after {time.monotonic() - start:.0f} s")
        stamp = {
            "for": [identity, requirements()],
            "extras": sorted(installed),
            "missing": missing,
        }
        self._stamp.write_text(json.dumps(stamp) + "\n")
        return missing

    def _install_build_tools(self) -> None:
        """The build itself then runs without isolation, so that later rebuilds need no network."""
        settings = _pyproject()
        build_tools = [
            *settings["build-system"]["requires"],
            settings["tool"]["fastpool"]["cython"],
        ]
        self._pip("installing the build tools", "--upgrade", "pip", *build_tools)

    def _install_all(self, extras: set[str], wished: set[str]) -> tuple[set[str], dict[str, str]]:
        """Install what they need at once, or where that fails the wished ones one by one."""
        try:
            self._install(extras | wished)
            return extras | wished, {}
        except SetupError:
            if not wished:
                raise
        self._install(extras)
        installed, missing = set(extras), dict[str, str]()
        for extra in sorted(wished):
            try:
                self._install({extra})
                installed.add(extra)
            except SetupError as error:
                missing[extra] = error.summary
                self._say(f"without {extra}: {error.summary}")
        return installed, missing

    def _install(self, extras: set[str]) -> None:
        self._pip(f"installing what {', '.join(sorted(extras))} need", *packages_of(extras))

    def _pip(self, what: str, *arguments: str, **switches: str) -> None:
        # A wheel is preferred to a newer release that has none, which on free-threaded builds is
        # the difference between seconds and a failure.  Modules are compiled when
        # they are imported, which most never are.
        options = ("--quiet", "--prefer-binary", "--no-compile")
        install = self.command(*PIP, "install", *options, *arguments)
        self._step(what, install, **switches)

    def _create(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        command = [*self.interpreter.prefix, self.interpreter.path, "-m", "venv", self.folder]
        self._step(f"made with Python {self.interpreter.version}", command)

    def _runs(self) -> bool:
        try:
            return subprocess.run(self.command("-c", ""), timeout=60).returncode == 0
        except OSError:
            return False

    def _read_stamp(self) -> tuple[list[str], set[str], dict[str, str]]:
        try:
            stamp = json.loads(self._stamp.read_text())
            return stamp["for"], set(stamp["extras"]), stamp["missing"]
        except (OSError, ValueError, KeyError):
            return [], set(), {}

    # -- building --

    def build(self) -> None:
        """Bring the compiled module in src/ up to date; quick when nothing changed."""
        with _in_turn:
            self._step("", self.command("setup.py", "--version"))  # generates the C
        what = "" if self._is_built() else "compiling fastpool"
        self._step(what, self.command("setup.py", "--quiet", "build_ext", "--inplace"))

    def _is_built(self) -> bool:
        tag = self.interpreter.label.replace(".", "")
        return any((ROOT / "src/fastpool").glob(f"_core.*{tag}-*"))

    def build_flavour(self, flavour: str, **switches: str) -> Path:
        """Build a variant of the package apart from src/; return the folder to put on the path."""
        library = ROOT / "build" / flavour / f"lib-{self.interpreter.label}"
        command = self.command("setup.py", "--quiet", "build", "--build-lib", library)
        self._step(f"building the {flavour} variant", command, **switches)
        return library

    def wheel(self) -> None:
        """Put a wheel of this interpreter in dist/."""
        command = self.command("setup.py", "--quiet", "bdist_wheel", "--dist-dir", "dist")
        self._step("building the wheel", command)

    def _step(self, what: str, command: list[str | Path], **environment: str) -> None:
        if what:
            self._say(what)
        environment = {**os.environ, "CC": self.interpreter.compiler, **environment}
        environment.pop("PYTHONPATH", None)
        run = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if run.returncode:
            shown = " ".join(map(str, command))
            last = "\n".join(run.stdout.splitlines()[-40:])
            raise SetupError(f"\n{last}\n\nfailed with status {run.returncode}: {shown}")

    def _say(self, what: str) -> None:
        print(f"  {self.folder.name}: {what}", flush=True)


def _pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_of(extras: Iterable[str]) -> list[str]:
    """What pip is to install for them; an extra may name others as `fastpool[other]`."""
    lists = _pyproject()["project"]["optional-dependencies"]
    packages: dict[str, None] = {}
    for extra in sorted(extras):
        for package in lists[extra]:
            own = re.match(r"fastpool\[([\w,-]+)\]", package)
            packages |= dict.fromkeys(packages_of(own[1].split(",")) if own else [package])
    return list(packages)


def requirements() -> str:
    """A digest of all that decides what an environment holds."""
    settings = _pyproject()
    tools = settings["tool"]
    parts = [settings["build-system"], settings["project"], tools["setuptools"], tools["fastpool"]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def main() -> None:
    venv = Venv(default())
    try:
        venv.ready(sys.argv[1:] or ["test"])
        venv.build()
    except SetupError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
