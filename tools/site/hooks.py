"""What MkDocs is told beside mkdocs.yml: pages from outside docs/, patterns in the navigation.

The pages stay what they are on GitHub: a link that leaves docs/ there leads to a page of the site
here.  The examples and some files of the repository become pages; for the API reference see
signatures.py.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import signatures
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]

#: File of the repository: the page that it becomes.
ADOPTED = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "bench/README.md": "project/bench.md",
    "tests/README.md": "project/tests.md",
}
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


# ---- the pages -----------------------------------------------------------------------------------


def on_files(files: Files, config: Any) -> Files:
    for uri, text in generated():
        files.append(File.generated(config, uri, content=text))
    config.nav = expanded(config.nav, [file.src_uri for file in files.documentation_pages()])
    return files


def generated() -> Iterator[tuple[str, str]]:
    """(page, its text) of all that does not lie in docs/."""
    for path, uri in ADOPTED.items():
        yield uri, (ROOT / path).read_text(encoding="utf-8")
    lines = ["# Examples", "", "Whole programs, run by the tests as they stand.", ""]
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        first = text.lstrip('"').partition("\n")[0].strip('" ')
        lines.append(f"- [{path.stem}]({path.stem}.md): {first}")
        yield f"examples/{path.stem}.md", f"# {path.stem}\n\n```python\n{text}```\n"
    yield "examples/index.md", "\n".join(lines) + "\n"
    for module, text in signatures.pages():
        yield f"api/{module}.md", text


# ---- the navigation ------------------------------------------------------------------------------


def expanded(nav: Any, pages: list[str]) -> Any:
    """The navigation with its patterns replaced by the pages that no other entry has."""
    named = {entry for entry in entries(nav) if "*" not in entry}
    if missing := sorted(named.difference(pages)):
        raise PluginError(f"in `nav` of mkdocs.yml, but not there: {', '.join(missing)}")
    left = [page for page in sorted(pages) if page not in named]

    def filled(part: Any) -> list[Any]:
        """What stands for one entry: itself, or the pages of a pattern; no empty section."""
        if isinstance(part, dict):
            [(title, inside)] = part.items()
            if isinstance(inside, str) and "*" not in inside:
                return [part]
            inside = [inside] if isinstance(inside, str) else inside
            kept = [one for entry in inside for one in filled(entry)]
            return [{title: kept}] if kept else []
        if "*" not in part:
            return [part]
        found = [page for page in left if fnmatchcase(page, part)]
        left[:] = [page for page in left if page not in found]
        return found

    nav = [one for part in nav for one in filled(part)]
    if left:
        raise PluginError(
            f"no entry or pattern of `nav` in mkdocs.yml fits {', '.join(left)}: add one, "
            "or nobody finds the page"
        )
    return nav


def entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(part)


# ---- their links ---------------------------------------------------------------------------------


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead what points out of docs/, or from one of the adopted files, to the page of the site."""
    here = page.file.src_uri
    origin = {uri: path for path, uri in ADOPTED.items()}.get(here, f"docs/{here}")

    def lead(match: re.Match[str]) -> str:
        target = match[2]
        if re.match(r"\w+:", target):
            return match[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        uri = page_of(wanted)
        if uri is None:
            return match[0]  # the strict build says what is wrong with it
        relative = posixpath.relpath(uri, posixpath.dirname(here) or ".")
        return f"{match[1]}{relative}{match[3] or ''}{match[4]}"

    # Code is left alone.
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(lead, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(lead, markdown[end:])])


def page_of(path: str) -> str | None:
    """The page of the site that shows a file of the repository."""
    if path in ADOPTED:
        return ADOPTED[path]
    if path == "README.md":
        return "README.md"
    if path == "examples":
        return "examples/index.md"
    if match := re.fullmatch(r"examples/(\w+)\.py", path):
        return f"examples/{match[1]}.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else None
