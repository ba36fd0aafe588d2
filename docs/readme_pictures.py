"""Write the pictures of the README from the folder of a finished demo: docs/why.png and docs/page.png.

    make demo && .venv/bin/python docs/readme_pictures.py demo

The first is a copy. The second is a screenshot of the page in the system's Chromium, which must be installed.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
VIEW = {"width": 1280, "height": 1000}


def main(demo: Path) -> None:
    """Copy the demo's picture, and take the screenshot of the page that compares its two sentences."""
    shutil.copy(demo / "why.png", DOCS / "why.png")
    first, second = json.loads((demo / "why.json").read_text("utf-8"))["sentences"]
    command = [sys.executable, "-m", "regard", "serve", str(demo / "index"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            address = next(found[0] for line in lines if (found := re.search(r"http://[\d.:]+", line)))
            with sync_playwright() as playwright:
                arguments = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
                page = playwright.chromium.launch(**arguments).new_page(viewport=VIEW)
                wait_for(f"{address}/v1/health")
                page.goto(f"{address}/?{urlencode({'q': first, 'vs': second, 'w': 'above'})}")
                page.wait_for_timeout(8_000)  # until all explanations are there
                page.screenshot(path=DOCS / "page.png")
        finally:
            server.terminate()
    for name in ("why.png", "page.png"):  # a palette makes the files four times smaller
        Image.open(DOCS / name).convert("RGB").quantize(256).save(DOCS / name, optimize=True)


def wait_for(address: str) -> None:
    """Wait until the server answers, for a minute at most."""
    for _ in range(120):
        with suppress(URLError):
            urlopen(address).close()
            return
        time.sleep(0.5)
    raise SystemExit(f"{address} does not answer.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
