from __future__ import annotations

import base64
import contextlib
import io
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.browser import is_complaint
from smerf.export.serve import SceneServer
from tests.helpers.tiny_scene import make_scene, write_manifest, write_submodel

CHROMIUM_FLAGS = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync",
    "--disable-renderer-backgrounding",
]  # fmt: skip


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory):
    """A folder with the arrays of one small submodel, and no manifest."""
    root = tmp_path_factory.mktemp("scene")
    write_submodel(root / "sm_000", make_scene())
    return root


@pytest.fixture(scope="module")
def described_dir(tmp_path_factory):
    """The same with a manifest."""
    root = tmp_path_factory.mktemp("described")
    write_submodel(root / "sm_000", make_scene())
    write_manifest(root)
    return root


@pytest.fixture(scope="module")
def browser():
    """A browser for the tests of a file; two in one process, with those of smerf verify, do not get on."""
    with start_browser(CHROMIUM_FLAGS) as browser:
        yield browser


@contextlib.contextmanager
def start_browser(flags):
    """Start Chromium with these flags."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "the viewer's tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(flags))
        yield browser
        browser.close()


class Visit:
    """One page of the viewer, with everything it reported to the console."""

    def __init__(self, browser, address: str, size=(96, 72), script: str | None = None, **options):
        self.size, self.address = size, address
        self.page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **options)
        self.page.set_default_timeout(120_000)
        if script:
            self.page.add_init_script(script)
        self.errors: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        # Playwright's own compiles its text in the page, which the page's policy forbids.
        self.page.wait_for_function = self._wait_for
        self.page.goto(address)

    def _note(self, message) -> None:
        if is_complaint(message):
            self.errors.append(message.text)

    def _wait_for(self, expression: str, polling: int = 20) -> None:
        end = time.monotonic() + 120
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"waited in vain for {expression}"
            self.page.wait_for_timeout(polling)

    def ready(self) -> Visit:
        self.page.evaluate("smerf.ready")
        return self

    def wait_until_still(self) -> None:
        """Wait until damped motion has ended and the last frame is drawn."""
        last = None
        while last is None or not np.array_equal(last, self.camera()):
            last = self.camera()
            self.page.wait_for_timeout(250)
            self.ready()

    def set_camera(self, matrix, fov=40, lens=None) -> None:
        self.page.evaluate(
            "([m, f, l]) => smerf.setCamera(m, f, l)", [np.asarray(matrix).ravel().tolist(), fov, lens]
        )

    def camera(self) -> np.ndarray:
        return np.array(self.page.evaluate("smerf.getCamera().cameraToWorld")).reshape(4, 4)

    def frame(self) -> np.ndarray:
        url = self.page.evaluate("document.querySelector('canvas').toDataURL()")
        image = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
        return np.asarray(image.convert("RGB"), np.int16)

    def leave(self) -> str:
        """Go to a plain file of the same host, which may embed the viewer; return the viewer's address."""
        address = self.page.url
        self.page.goto(self.page.evaluate("document.querySelector('link[rel=stylesheet]').href"))
        return address

    def message(self) -> str:
        return self.page.locator("[role=alert]").inner_text()


@pytest.fixture
def visit(browser):
    """Open a folder (or a file:// address) in the viewer; pages and servers are closed afterwards."""
    opened, servers = [], []

    def open_page(directory, query="", **options) -> Visit:
        if isinstance(directory, str):
            address = directory + (f"?{query}" if query else "")
        else:
            servers.append(SceneServer(directory, allow_origin="*").__enter__())
            address = f"{servers[-1].url}?dpr=1&{query}"
        opened.append(Visit(browser, address, **options))
        return opened[-1]

    yield open_page
    for each in opened:
        each.page.close()
    for server in servers:
        server.__exit__()


def from_npm(folder: Path, package: str, file: str) -> str:
    """Return the text of a file of a package, from npm's cache or its registry; skip the test without either."""
    if shutil.which("npm"):
        command = ["npm", "pack", package, "--silent", "--prefer-offline", "--fetch-retries=0"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ)
        if done.returncode == 0:
            shutil.unpack_archive(next(folder.glob("*.tgz")), folder, "gztar")
            return (folder / "package" / file).read_text(encoding="utf-8")
    pytest.skip(f"{package} is not here, and no npm registry in reach")


@pytest.fixture(scope="session")
def violations(tmp_path_factory):
    """Return a function that names what axe-core finds wrong in a page."""
    axe = from_npm(tmp_path_factory.mktemp("axe"), "axe-core@4.10.3", "axe.min.js")
    return lambda tab: _violations(tab, axe)


@pytest.fixture(scope="session")
def headset(tmp_path_factory):
    """Return a script that gives a page the WebXR of an emulated headset, ``window.headset``."""
    emulator = from_npm(tmp_path_factory.mktemp("iwer"), "iwer@2.5.0", "build/iwer.min.js")
    return f"""{emulator}
        window.headset = new IWER.XRDevice(IWER.metaQuest3);
        headset.stereoEnabled = true;
        headset.installRuntime({{ forceInstall: true }});"""


def _violations(tab, axe: str) -> list[str]:
    if not tab.evaluate("'axe' in globalThis"):
        tab.add_script_tag(content=axe)
    # What is fading in has no contrast yet.
    tab.evaluate("Promise.allSettled(document.getAnimations().map((each) => each.finished)).then(() => null)")
    found = tab.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]]
