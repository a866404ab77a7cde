"""``smerf view SLOTS.safetensors``: the desktop viewer for a scene of slots. Called by ``smerf view``."""

from __future__ import annotations

from pathlib import Path

__all__ = ["is_slots", "view_slots"]

_SIZE = (960, 800)


def is_slots(path: Path) -> bool:
    """Return whether ``smerf view`` is asked for slots rather than for a baked scene."""
    return path.suffix == ".safetensors"


def view_slots(
    path: Path,
    *,
    size: tuple[int, int] | None,
    fov: float | None,
    output: Path | None,
    screenshot: Path | None,
    offscreen: bool,
) -> int:
    """Open slots in a window, or save the first image.

    Args:
        path: File that encode or edit wrote.
        size: Width and height of the window or of the image.
        fov: Vertical field of view in degrees.
        output: Folder for what is saved in the window.
        screenshot: Save the first full image and close.
        offscreen: Open no window.

    Raises:
        UsageError: If there is nothing to render without a window.
    """
    from PIL import Image

    from smerf.errors import UsageError
    from smerf.export.desktop import desktop_viewer
    from smerf.pipeline.objects import load_scene_of_slots

    if offscreen and screenshot is None:
        raise UsageError(
            f"{path}: --offscreen renders slots with --screenshot FILE; smerf objects render does more"
        )
    scene = load_scene_of_slots(path, None, None)
    if offscreen and screenshot is not None:
        width = (size or _SIZE)[0]
        wanted = size or (width, max(1, round(width / scene.aspect)))
        with desktop_viewer("context").offscreen_context():
            painter = desktop_viewer("slots").SlotPainter(scene)
            image = painter.image(scene.pose, fov or scene.fov, wanted)
            painter.free()
        screenshot.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., :3]).save(screenshot)
        print(f"image: {screenshot}")
        return 0
    window_of = desktop_viewer("slot_window").SlotWindow
    with window_of(scene, path.stem, size or _SIZE, fov, output or Path(".")) as window:
        if screenshot is not None:
            window.viewer.finish()
            window.viewer.save_image(screenshot)
            print(f"image: {screenshot}")
            return 0
        window.run()
    return 0
