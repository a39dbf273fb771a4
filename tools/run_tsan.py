"""Look for data races: the C harness, its weakened copy, and the extension, under ThreadSanitizer.

    python3 tools/run_tsan.py [pytest arguments]

1. tests/native/run.py --tsan builds the harness over the headers alone and must end clean; it also
   runs a copy with one ordering weakened, which the sanitizer must catch.
2. The extension is built for a free-threaded CPython that is itself built with the sanitizer, and
   the thread tests run on it. Any report fails. Without such an interpreter the step is not run:
   name one in FASTPOOL_TSAN_PYTHON.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from interpreters import ROOT, Interpreter, NotFound, find, find_tsan
from venvs import SetupError, Venv

#: The sanitizer maps its shadow memory at fixed addresses, which address randomisation may take.
SETARCH = ["setarch", "-R"] if shutil.which("setarch") else []
SUPPRESSIONS = ROOT / "tools/tsan-suppressions.txt"
#: In its worlds threads hand a baton on: there is nothing to race, and it takes a minute a test.
ONE_AT_A_TIME = "tests/stress/test_shuffled.py"


def harness() -> bool:
    command = [sys.executable, "tests/native/run.py", "--tsan"]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def extension(interpreter: Interpreter, arguments: list[str]) -> bool:
    build = ROOT / "build/thread"
    library = build / "lib"
    packages = plain_environment(interpreter.label).site_packages
    compile_it(interpreter, library, packages)

    reports = build / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    options = f"log_path={reports}/race history_size=4 suppressions={SUPPRESSIONS}"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (library, packages))),
        "PYTHON_GIL": "0",
        "FASTPOOL_STRESS_OPS": os.environ.get("FASTPOOL_STRESS_OPS", "5000"),
        "TSAN_OPTIONS": options,
    }
    tests = arguments or ["tests/stress", "--measures=no", f"--ignore={ONE_AT_A_TIME}"]
    command = [*SETARCH, interpreter.path, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    status = subprocess.run(command, cwd=ROOT, env=environment).returncode
    races = set()
    for report in reports.iterdir():
        lines = report.read_text(errors="replace").splitlines()
        # Whatever the sanitizer has to say counts, a race or a word about itself.
        races |= {line for line in lines if line.startswith("SUMMARY")} or set(lines[:1])
    for race in sorted(races):
        print(race)
    print(f"{len(races)} different races; pytest ended with status {status}")
    if races:
        print(f"in full: {reports.relative_to(ROOT)}/")
    return not races and not status


def compile_it(interpreter: Interpreter, library: Path, packages: Path) -> None:
    print(f"  building for {interpreter.path} ...", flush=True)
    command = [*SETARCH, interpreter.path, "setup.py", "--quiet", "build", "--build-lib", library]
    environment = {
        **os.environ,
        "CC": "gcc -fsanitize=thread",
        "FASTPOOL_SANITIZE": "thread",
        "PYTHONPATH": str(packages),
    }
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def plain_environment(label: str) -> Venv:
    """The environment of the interpreter without the sanitizer: same version, same ABI."""
    try:
        plain = find(label)
    except NotFound as reason:
        raise SetupError(f"no plain python{label} beside the sanitizer's: {reason}") from None
    venv = Venv(plain)
    venv.ready(["test"])
    venv.build()  # generates the C that both compile
    return venv


def main() -> int:
    verdicts = {"harness clean, weakened copy caught": harness()}
    interpreter = find_tsan()
    if interpreter is None:
        print("extension: not run: no CPython built with ThreadSanitizer")
    else:
        try:
            verdicts["extension clean"] = extension(interpreter, sys.argv[1:])
        except (SetupError, subprocess.CalledProcessError) as error:
            print(error)
            verdicts["extension clean"] = False
    print()
    for what, holds in verdicts.items():
        print(f"{what:<40} {'yes' if holds else 'NO'}")
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
