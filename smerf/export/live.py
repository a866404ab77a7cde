"""A page that shows a scene while it is being made: pictures first, then one exported page after the other.

The server's own page frames the newest exported page and asks every two seconds whether there is a newer one; it
then changes over with the view kept. Every exported page lies in a folder of its own, so that none changes
while a browser reads it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from smerf.engine.files import write_bytes, write_json, write_text
from smerf.export.serve import SceneServer

__all__ = ["LivePage"]

_STATE = "live.json"
_KEPT = 2
"""Exported pages that are kept: a browser may still be reading the last but one."""


class LivePage:
    """Serves a page from ``__enter__`` to ``__exit__``; what it shows lies in a temporary folder.

    Args:
        run: Folder of the run: its ``progress.jsonl`` and its finished ``site`` are served beside the page.
        host: Address to listen on.
        port: Port; the next free one from there on is taken, 0 for any.

    Raises:
        SmerfError: If no port is free.
    """

    def __init__(self, run: Path, host: str = "127.0.0.1", port: int = 8080) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="smerf-watch-")
        self.folder = Path(self._temporary.name)
        self._version, self._pages = 0, list[Path]()
        write_text(self.folder / "index.html", _HTML)
        self._tell([], None, False)
        beside = {"/site/": run / "site", "/progress.jsonl": run / "progress.jsonl"}
        try:
            self._server = SceneServer(self.folder, host, port, beside=beside)
        except BaseException:
            self._temporary.cleanup()
            raise

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return self._server.url

    def __enter__(self) -> LivePage:
        """Start answering."""
        self._server.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop, and remove what was shown before the finished page."""
        self._server.__exit__(*exception)
        self._temporary.cleanup()

    def wait(self) -> None:
        """Block until Ctrl-C, which raises KeyboardInterrupt."""
        self._server.wait()

    def show_pictures(self, pictures: list[bytes]) -> None:
        """Show JPEG pictures of what is there so far."""
        for index, data in enumerate(pictures):
            write_bytes(self.folder / f"{index}.jpg", data)
        self._tell([f"{index}.jpg" for index in range(len(pictures))], None, False)

    def new_folder(self) -> Path:
        """Return a folder to export the next page to; ``show`` then shows it."""
        return self.folder / f"page{self._version + 1}"

    def show(self, page: Path) -> None:
        """Show an exported page, the folder that ``new_folder`` returned."""
        self._pages.append(page)
        self._tell([], f"{page.name}/", False)
        while len(self._pages) > _KEPT:
            shutil.rmtree(self._pages.pop(0), ignore_errors=True)

    def finish(self) -> None:
        """Show the finished page of the run."""
        self._tell([], "site/", True)

    def _tell(self, pictures: list[str], page: str | None, is_finished: bool) -> None:
        self._version += 1
        state = {"version": self._version, "pictures": pictures, "page": page, "finished": is_finished}
        write_json(self.folder / _STATE, state)


_HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>smerf: at work</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; }
body { margin: 0; height: 100vh; display: flex; flex-direction: column; font: 15px/1.4 system-ui, sans-serif; }
header { padding: 8px 12px; }
iframe { flex: 1; border: 0; }
#pictures { flex: 1; overflow: auto; display: flex; flex-wrap: wrap; gap: 8px; padding: 0 12px; align-content: start; }
#pictures img { width: min(320px, 100%); }
[hidden] { display: none !important; }
</style>
<header role="status"><span id="stage">Starting</span> <span id="what"></span></header>
<main id="pictures"></main>
<script type="module">
const $ = (id) => document.getElementById(id);
let version = 0, frame = null, hasMoved = false, isFinished = false;

// Keeps the view that the visitor has chosen; before that every page opens with its own.
function show(page) {
  const view = hasMoved ? frame?.contentWindow.smerf?.getCamera() : null;
  const next = document.createElement("iframe");
  next.title = "The scene";
  next.src = page;
  next.addEventListener("load", () => {
    for (const type of ["pointerdown", "wheel", "keydown"]) {
      next.contentWindow.addEventListener(type, () => (hasMoved = true), { capture: true, passive: true });
    }
    if (view?.cameraToWorld) next.contentWindow.smerf?.setCamera(view.cameraToWorld, view.fovDegrees, view.lens);
  });
  if (frame) frame.replaceWith(next);
  else document.body.append(next);
  $("pictures").hidden = true;
  frame = next;
}

async function look() {
  const state = await (await fetch("live.json", { cache: "no-store" })).json();
  if (state.version === version) return;
  version = state.version;
  isFinished = state.finished;
  if (state.page) show(state.page);
  else $("pictures").replaceChildren(...state.pictures.map((name) => {
    const image = new Image();
    image.src = `${name}?${version}`;
    image.alt = "A photo's view, as trained so far";
    return image;
  }));
  if (isFinished) [document.title, $("stage").textContent] = ["smerf: finished", "Finished."];
  const what = state.page ? "A coarse scene of what is there so far." : "";
  $("what").textContent = isFinished ? "This is the finished page." : what;
}

async function tellProgress() {
  const answer = await fetch("progress.jsonl", { headers: { Range: "bytes=-2000" }, cache: "no-store" });
  if (!answer.ok) return;
  const lines = (await answer.text()).trim().split("\\n");
  const { stage, done, total, left } = JSON.parse(lines.at(-1));
  const part = total ? ` ${Math.floor((100 * done) / total)} %` : "";
  const rest = left ? `, about ${Math.max(1, Math.round(left / 60))} min to go` : "";
  $("stage").textContent = `${stage}${part}${rest}.`;
}

// What cannot be read now can be read next time; a server that has stopped is said to have.
async function poll() {
  try {
    await look();
    if (!isFinished) await tellProgress().catch(() => {});
  } catch {
    $("stage").textContent = isFinished ? "Finished; no longer served." : "The run has stopped.";
  }
  setTimeout(poll, 2000);
}
poll();
</script>
"""
