"""Builds `candidates` for the running interpreter, when its sources are newer than the last build.

Everything lands in `build/<interpreter>/`, which ignores itself, so that the builds of several
interpreters stand side by side.
"""

import contextlib
import importlib.util
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
SOURCES = [HERE / "candidates.h", HERE / "candidates.pyx", HERE / "_build.py"]


def load() -> ModuleType:
    """Return the module `candidates`, built first if need be (some seconds). Needs Cython 3.1+."""
    folder = HERE / "build" / sysconfig.get_config_var("SOABI")
    built = folder / ("candidates" + sysconfig.get_config_var("EXT_SUFFIX"))
    newest = max(source.stat().st_mtime for source in SOURCES)
    if not built.exists() or built.stat().st_mtime < newest:
        print(f"building {built.name} ...", file=sys.stderr, flush=True)
        _build(folder)
    spec = importlib.util.spec_from_file_location("candidates", built)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _build(folder: Path) -> None:
    try:
        from Cython.Build import cythonize
        from setuptools import Distribution, Extension
    except ImportError as missing:
        sys.exit(f"compare.py needs {missing.name} to build its module: pip install it")
    folder.mkdir(parents=True, exist_ok=True)
    (HERE / "build" / ".gitignore").write_text("*\n")
    with contextlib.chdir(HERE):  # relative names: the sources land below `folder`
        extension = Extension(
            "candidates",
            ["candidates.pyx"],
            include_dirs=["."],
            extra_compile_args=["-O3", "-Wno-unused-function"],
        )
        command = Distribution(
            {"ext_modules": cythonize([extension], build_dir=os.fspath(folder), quiet=True)}
        ).get_command_obj("build_ext")
        command.build_lib = os.fspath(folder)
        command.build_temp = os.fspath(folder)
        command.force = True
        command.ensure_finalized()
        command.run()
