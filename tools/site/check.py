"""Follow every link of the built site, without a network; exit with 1 if one is broken.

    python tools/site/check.py build/site

A link inside the site must lead to a file, and its fragment to an element there.  Scripts, styles,
pictures and fonts must all be the site's own: a page that is read offline fetches nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Tag: its attribute by which something is fetched at once.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
#: Values of `rel` of a <link> that is not fetched.
NOT_FETCHED = {"canonical", "next", "prev"}


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attributes if value is not None}
        self.ids.update(given[name] for name in ("id", "name") if name in given)
        if tag in FETCHED and given.get("rel") not in NOT_FETCHED:
            self.assets += [given[FETCHED[tag]]] if FETCHED[tag] in given else []
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])


def problems(site: Path) -> Iterator[str]:
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        here = path.relative_to(site)
        for target in page.assets:
            if urlsplit(target).netloc:
                yield f"{here}: fetches {target}"
        for target in [*page.links, *page.assets]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or here.name == "404.html":
                continue  # the links of that page are absolute: it may be shown at any address
            base = path.parent / unquote(parts.path) if parts.path else path
            found = (base / "index.html" if base.is_dir() else base).resolve()
            if not found.exists():
                yield f"{here}: {target} does not exist"
            elif parts.fragment and found.suffix == ".html":
                if unquote(parts.fragment) not in pages[found].ids:
                    yield f"{here}: {target} has no such anchor"
    for path in sorted(site.rglob("*.css")):
        for target in re.findall(r"(?:url\(|@import )[\"']?(https?:[^\"')]+)", path.read_text()):
            yield f"{path.relative_to(site)}: fetches {target}"


def main() -> int:
    site = Path(sys.argv[1]).resolve()
    pages = sorted(site.rglob("*.html"))
    links = sum(len(Page(path).links) for path in pages)
    broken = list(problems(site))
    print("\n".join([*broken, f"{len(pages)} pages, {links} links, {len(broken)} broken"]))
    return bool(broken) or not pages


if __name__ == "__main__":
    sys.exit(main())
