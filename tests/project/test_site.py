"""The documentation site builds from what a clone has, without a network, and no link is broken."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastpool

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / "tools/site/check.py"
NEEDED = ("mkdocs", "material", "mkdocstrings")

pytestmark = [pytest.mark.process, pytest.mark.once]
built = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)),
    reason="the extra 'docs' is not installed: mkdocs, mkdocs-material, mkdocstrings",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that git would give to somebody else, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def mkdocs(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet"]
    # A build that asks somebody fails at once: there is nobody at the other end.
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    environment = {**os.environ, **nobody, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def check(site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, CHECK, site], capture_output=True, text=True)


@built
@pytest.mark.long
def test_the_site_builds_and_no_link_is_broken(clone: Path) -> None:
    done = mkdocs(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    checked = check(clone / "build/site")
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.endswith(" 0 broken\n")

    # A page of each origin, by something that only a complete one has.
    for page, text in {
        "index.html": "howto/resource-pool.html",
        "search/search_index.json": "PoolTimeout",
        "api/fastpool.html": "Seconds idle after which a resource is closed",
        "examples/tcp_pool.html": "import",
    }.items():
        assert text in (clone / "build/site" / page).read_text(encoding="utf-8"), page

    # The API reference has every public name, by a heading of its own.
    pages = [clone / f"build/site/api/{name}.html" for name in ("fastpool", "fastpool.errors")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert set(fastpool.__all__) <= set(re.findall(r"<h2[^>]*>(\w+)", text))


@built
@pytest.mark.costly
def test_a_page_outside_the_navigation_stops_the_build(clone: Path) -> None:
    """One in a folder that no pattern fits; in those that have one it appears by itself."""
    (clone / "docs/elsewhere").mkdir()
    (clone / "docs/elsewhere/page.md").write_text("# A page\n")
    done = mkdocs(clone)
    assert done.returncode != 0
    assert "fits elsewhere/page.md: add one" in done.stdout + done.stderr


@pytest.mark.light
def test_the_check_finds_what_is_broken(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<h1 id="top"></h1><a href="#top"></a><a href="other.html#there"></a>'
        '<a href="other.html#nowhere"></a><a href="gone.html"></a><a href="https://example.org"></a>'
        '<script src="https://example.org/a.js"></script><link rel="stylesheet" href="a.css">'
    )
    (tmp_path / "other.html").write_text('<h2 id="there"></h2>')
    (tmp_path / "a.css").write_text("@font-face { src: url(https://example.org/font) }")
    done = check(tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "index.html: fetches https://example.org/a.js",
        "index.html: other.html#nowhere has no such anchor",
        "index.html: gone.html does not exist",
        "a.css: fetches https://example.org/font",
        "2 pages, 5 links, 4 broken",
    ]
