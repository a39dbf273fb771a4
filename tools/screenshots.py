"""Make the pictures of `fastpool top` in docs/images, from a service that leaks.

    .venv/bin/python tools/screenshots.py [FOLDER]

Needs Chromium (Debian: chromium) and textual. The service is shop.py beside it, in this process;
`fastpool top` looks at it from another one, as always. Chromium is spoken to through a pipe, which
needs no package.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fastpool import debug
from fastpool.cli.top.live import TopApp
from fastpool.cli.top.watch import Watch

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 20  # how long the service runs before it is looked at: so much history has each picture
SHOP = ROOT / "tools/shop.py"
SERVED = "/srv/shop/shop.py"  # where that seems to lie


class Shot(NamedTuple):
    """A picture of the page: of all pools or of one, at a size in pixels.  Those that are not
    `in_docs` are for whoever changes the page: they are made where a folder is given."""

    name: str
    size: tuple[int, int]
    scheme: str
    pool: bool = False
    in_docs: bool = True


SHOTS = (
    Shot("top-web", (1280, 400), "light"),
    Shot("top-web-phone", (390, 1080), "dark"),
    Shot("top-web-pool", (1280, 780), "dark", pool=True),
    Shot("top-web-tablet", (800, 700), "dark", in_docs=False),
    Shot("top-web-pool-phone", (390, 1080), "light", pool=True, in_docs=False),
)


# ---- a browser -----------------------------------------------------------------------------------


class Browser:
    """Chromium without a window, spoken to in its own protocol through a pipe."""

    def __init__(self, profile: str) -> None:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        if program is None:
            sys.exit("these pictures need Chromium (Debian: apt-get install chromium)")
        to_it, ours = os.pipe()
        theirs, from_it = os.pipe()

        def connect() -> None:
            os.dup2(to_it, 103)
            os.dup2(from_it, 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        self._process = subprocess.Popen(
            [program, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            preexec_fn=connect,
            pass_fds=(3, 4),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_it)
        os.close(from_it)
        self._out, self._in = os.fdopen(ours, "wb", 0), os.fdopen(theirs, "rb")
        self._number = 0
        self._session: dict[str, str] = {}
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        attached = self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters, **self._session}
        self._out.write(json.dumps(order).encode() + b"\0")
        while True:
            said = json.loads(self._message())
            if said.get("id") == self._number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                return said["result"]

    def _message(self) -> bytes:
        found = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has gone")
            found += byte
        return bytes(found)

    def evaluate(self, script: str) -> Any:
        return self.tell("Runtime.evaluate", expression=script)["result"].get("value")

    def picture(self, url: str, path: Path, size: tuple[int, int], scheme: str) -> None:
        """What a page looks like after some seconds."""
        width, height = size
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.tell("Emulation.setEmulatedMedia", features=[feature])
        self.tell("Page.navigate", url="about:blank")  # another "#" alone loads nothing
        self.tell("Page.navigate", url=url)
        time.sleep(4)
        wide = self.evaluate("document.documentElement.scrollWidth")
        if wide is not None and wide > width:
            print(f"{path.name}: {wide} px wide on a screen of {width}")
        shot = self.tell("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
        print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


# ---- the pictures --------------------------------------------------------------------------------


@contextlib.contextmanager
def page(address: str) -> Iterator[str]:
    """The address of the page."""
    command = [sys.executable, "-m", "fastpool", "top", address, "--web", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as viewer:
        assert viewer.stdout is not None
        yield viewer.stdout.readline().strip()
        viewer.terminate()


async def screens(address: str, folder: Path) -> list[Path]:
    """The two live screens, as SVG."""
    found = []
    with debug.connect(address) as process:
        app = TopApp(Watch(process), interval=0.5)
        async with app.run_test(size=(118, 20)) as pilot:
            await pilot.pause(SECONDS / 2)
            for name in ("top-live", "top-live-pool"):
                found.append(folder / f"{name}.svg")
                found[-1].write_text(app.export_screenshot(title="fastpool top"))
                await pilot.press("enter")
                await pilot.pause(2)
    return found


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/images"
    wanted = [shot for shot in SHOTS if shot.in_docs or len(sys.argv) > 1]
    folder.mkdir(parents=True, exist_ok=True)
    sys.argv[0] = SERVED  # what the pictures show
    shop: dict[str, Any] = {"__name__": "shop"}
    exec(compile(SHOP.read_text(), SERVED, "exec"), shop)
    shop["serve_requests"](SECONDS)
    with tempfile.TemporaryDirectory() as work, debug.serve(f"unix:{work}/s") as server:
        browser = Browser(work)
        try:
            for svg in asyncio.run(screens(server.address, Path(work))):
                box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg.read_text())
                assert box is not None
                size = (round(float(box[1])), round(float(box[2])))
                browser.picture(svg.as_uri(), folder / f"{svg.stem}.png", size, "dark")
            with page(server.address) as url:
                for shot in wanted:
                    address = f"{url}#{id(shop['orders'])}" if shot.pool else url
                    browser.picture(address, folder / f"{shot.name}.png", shot.size, shot.scheme)
        finally:
            browser.close()
    sys.stdout.flush()
    os._exit(0)  # the service never ends


if __name__ == "__main__":
    main()
