"""Builds the one compiled module, fastpool._core. All metadata is in pyproject.toml.

Five switches, each an environment variable, on when set to anything but "" and "0":

    FASTPOOL_DEBUG=1       -O0 -g3, C assertions, the whole structure checked after each operation
    FASTPOOL_TRACE=1       line tracing, for coverage and profilers
    FASTPOOL_SANITIZE=...  "thread" or "address"
    FASTPOOL_ANNOTATE=1    _core.html beside the generated C: which line costs which C
    FASTPOOL_BUILT=1       an editable install takes the module that `build_ext --inplace` has made,
                           and does not compile it once more in a folder of its own

Each combination compiles in a folder of its own under build/; the generated C is in build/cython.
A source distribution has the C beside the Cython source, and is built without Cython where that is
not installed; a checkout asks pip for it.
"""

import os
import platform
import re
import shutil
import sys
import tomllib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.sdist import sdist

try:
    from Cython.Build import cythonize
except ImportError:
    cythonize = None


def switch(name: str) -> str:
    value = os.environ.get(f"FASTPOOL_{name}", "")
    return "" if value == "0" else value


debug, trace, annotate = switch("DEBUG"), switch("TRACE"), switch("ANNOTATE")
sanitizer = switch("SANITIZE")
if sanitizer not in ("", "thread", "address"):
    sys.exit(f"FASTPOOL_SANITIZE is 'thread' or 'address', not {sanitizer!r}")

macros: list[tuple[str, str | None]] = []
link: list[str] = []
if sys.platform == "win32":  # MSVC: C11 atomics are behind a switch of their own
    compile_ = ["/std:c11", "/experimental:c11atomics"]
    compile_ += ["/Od", "/Zi", "/UNDEBUG"] if debug else ["/O2"]
    link = ["/DEBUG"] if debug else []
    if sanitizer == "address":
        compile_ += ["/fsanitize=address"]
else:  # gcc and clang; no -march: a wheel runs on other machines than the one that built it
    compile_ = ["-std=gnu11", "-fvisibility=hidden"]
    compile_ += ["-O0", "-g3", "-UNDEBUG"] if debug else ["-O2", "-g0"]
    if not debug:  # -O3 inlines twice as much, in the cold 96 % too; the hot paths need this much
        compile_ += ["--param=max-inline-insns-auto=22", "--param=early-inlining-insns=14"]
    if sys.platform == "linux" and not debug:
        compile_ += ["-fno-plt"]
        if platform.libc_ver()[0] == "glibc":  # musl cannot load such a library at run time
            compile_ += ["-ftls-model=initial-exec"]  # a hint is read without a call
    if sys.platform == "linux" and not debug and "bdist_wheel" in sys.argv:
        link = ["-Wl,--strip-all"]  # 6 % of the wheel; a build in place keeps names for profilers
    if sanitizer:
        link = [f"-fsanitize={sanitizer}"]
        compile_ += [*link, "-g", "-fno-omit-frame-pointer"]
if debug:
    macros += [("FASTPOOL_DEBUG", "1")]
if trace:
    macros += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]

package = Path("src/fastpool")
source, shipped = package / "_core.pyx", package / "_core.c"
parts = sorted((package / "core").rglob("*.*"))
newest = max(path.stat().st_mtime for path in [source, *package.rglob("*.pxi")])
plain = not trace and not annotate and shipped.exists() and shipped.stat().st_mtime >= newest
# Generated anew when a file of ours has changed.  Cython looks at its own, too, which are new in
# each new environment: then all that is compiled already would be compiled again.
folder = Path("build/cython-trace" if trace else "build/cython")
generated = folder / shipped
made_by = max(newest, *(Path(name).stat().st_mtime for name in ("setup.py", "pyproject.toml")))
fresh = not annotate and generated.exists() and generated.stat().st_mtime >= made_by
kept, there = (generated, fresh) if cythonize else (shipped, plain)
core = Extension(
    "fastpool._core",
    sources=[str(kept if there else source)],
    depends=list(map(str, parts)),
    include_dirs=[str(package)],
    define_macros=macros,
    extra_compile_args=compile_,
    extra_link_args=link,
)


class Sdist(sdist):
    """Ships the generated C, too."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        written = self.distribution.ext_modules[0].sources[0]
        target = Path(base_dir, shipped)
        target.unlink(missing_ok=True)
        shutil.copy2(written, target)  # not older than what it was made from


# The methods that leases and waits call, and what runs once for each; every other one is compiled
# for size, and stands apart from these.
HOT = re.compile(
    r"""
    get | put | get_nowait | put_nowait | lease | acquire | acquire_of | release |
    hold | run | claim | take | stored | try_acquire | try_hold | __enter__ |
    __exit__ | __aexit__ | __await__ | __iter__ | __next__ | __call__ | send |
    _hit | _manager | _entered | hit | lease_hit | lease_keep |
    keyed_lease_hit | shared_hit | share_lease_hit | units_hit |
    units_later | units_keep | units_join | get_later | put_later | asks |
    lease_asks | manager | join_pool | begin_now | withdraw | lead | leave |
    answer | ask | then | wake | wait | wait_for | set | is_set | notify_all |
    current | must_yield | task | receive | give | pin | unpin | with_call |
    future | block | cursor | execute | __getattr__
    """,
    re.VERBOSE,
)
METHOD = r"__pyx_(?:pw|getprop|setprop|tp_clear|tp_traverse)_8fastpool_(?:\w*_\d+)?([A-Za-z_]\w*)"


def mark_cold(c: Path) -> None:
    """Marks all methods but the hot ones, for GCC; their counts of instructions do not change."""

    def marked(found: re.Match[str]) -> str:
        return found[0] if HOT.fullmatch(found[2]) else f"static CYTHON_SMALL_CODE {found[1]}"

    before = c.read_text()
    after = re.sub(rf"^static ((?:PyObject \*|int ){METHOD}\()", marked, before, flags=re.M)
    if after != before:
        c.write_text(after)


extensions, needed = [core], []
if "editable_wheel" in sys.argv and switch("BUILT"):
    extensions = []
elif cythonize:
    if not fresh:
        extensions = cythonize(
            core,
            build_dir=str(folder),
            annotate=bool(annotate),
            force=True,  # or a file of ours that Cython does not know of would change nothing
            compiler_directives={"linetrace": bool(trace)},
        )
    mark_cold(Path(extensions[0].sources[0]))
elif not plain:  # the build backend tells pip, which then comes again
    needed = [tomllib.loads(Path("pyproject.toml").read_text())["tool"]["fastpool"]["cython"]]

flavour = "-".join(filter(None, [debug and "debug", trace and "trace", sanitizer])) or "release"
setup(
    ext_modules=extensions,
    setup_requires=needed,
    cmdclass={"sdist": Sdist},
    options={"build": {"build_base": f"build/{flavour}"}},
)
