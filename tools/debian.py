"""Have a CPython that this machine lacks, from Debian's packages in a folder of its own.

The folder is a small Debian that is newer than most machines: its programs need its own C library,
so they run with that folder as their root.  What both must see lies at the same path inside and
outside: the checkout, the temporary files, processes and devices.  The mounts belong to the command
alone and end with it.

Unpacking takes root, debootstrap, a Debian mirror among the machine's own package sources, and
about 40 seconds; it is done once, in the cache folder of the user's home.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastpool-interpreters"

#: What Debian packages, in its testing and unstable suites.  Free-threaded builds it does not.
LABELS = ("3.14", "3.15")
SUITE, NEWER = "forky", "sid"

#: What a program inside needs to reach the package index of the machine.
SETTINGS = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/pip.conf",
    "/etc/ssl/certs/ca-certificates.crt",
)

#: $1: the folder; $2: the checkout; then the command.  It keeps its working folder.
ENTER = """
system=$1 checkout=$2; shift 2
for folder in /proc /dev /tmp "$checkout"; do
  mkdir -p "$system$folder" && mount --rbind "$folder" "$system$folder" || exit 125
done
exec chroot "$system" /bin/sh -c 'cd "$1" && shift && exec "$@"' enter "$PWD" "$@"
"""


class NotHad(Exception):
    """The interpreter cannot be had this way; the text says what is missing."""


@cache
def system(label: str) -> Path:
    """The folder of the Debian that has this CPython, unpacked on first use."""
    if label not in LABELS:
        raise NotHad("Debian has no package of it")
    folder = CACHE / f"debian-{label}"
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NotHad("running Debian's package of it needs root on Linux")
    if (folder / f"usr/bin/python{label}").exists():
        return folder
    if not shutil.which("debootstrap"):
        raise NotHad("unpacking Debian's package of it needs debootstrap")
    _unpack(label, folder)
    return folder


def command(folder: Path) -> tuple[str, ...]:
    """What stands before a command that is to run inside."""
    inside = ("env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "CC=gcc", "LANG=C.UTF-8")
    outside = ("unshare", "--mount", "sh", "-c", ENTER, "enter", str(folder), str(ROOT))
    return (*outside, *inside)


def _unpack(label: str, folder: Path) -> None:
    packages = f"python{label},python{label}-dev,python{label}-venv,gcc,libc6-dev,ca-certificates"
    packages += ",valgrind"  # counts the instructions of the hot paths
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = CACHE / f"partial-{label}-{os.getpid()}"
    log = CACHE / f"debian-{label}.log"
    options = ("--no-check-gpg", "--variant=minbase", f"--include={packages}")
    print(f"  unpacking Debian's Python {label} ...", end="", flush=True)
    start = time.monotonic()
    try:
        with log.open("w") as output:
            unpacking = subprocess.run(
                ["debootstrap", *options, SUITE, partial, _mirror(), NEWER],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if unpacking.returncode:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise NotHad(f"Debian's package could not be unpacked: {''.join(last)} ({log})")
        for setting in map(Path, SETTINGS):
            if setting.exists():
                inside = partial / setting.relative_to("/")
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.unlink(missing_ok=True)
                shutil.copy(setting.resolve(), inside)
        partial.rename(folder)  # a run that was stopped half-way leaves none
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f" {time.monotonic() - start:.0f} s", flush=True)


def _mirror() -> str:
    """The mirror that this machine uses itself."""
    sources = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    text = "\n".join(source.read_text() for source in sources if source.is_file())
    active = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = re.search(r"https?://\S+/debian/?(?=\s|$)", active)
    if not found:
        raise NotHad("no Debian mirror among the machine's package sources")
    return found[0]
