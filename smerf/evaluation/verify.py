"""Check that a baked scene is intact and that every viewer renders the same image of it.

Differences are those of 8-bit images, per pixel the largest of the three channels, in steps of 1/255.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.types import Camera, Intrinsics
from smerf.errors import UsageError
from smerf.evaluation.viewers import VIEWERS, NoWebGPUError, open_viewer
from smerf.scene import BakedScene, load_scene, verify_manifest
from smerf.scene.manifest import MANIFEST_NAME
from smerf.scene.view import fit_camera

__all__ = [
    "FRACTION_WITHIN",
    "TOLERANCE",
    "Difference",
    "Verification",
    "choose_cameras",
    "compare",
    "verify_scene",
]

TOLERANCE = 2
FRACTION_WITHIN = 0.999
_AMPLIFICATION = 32
_FIELD_DEGREES = 60.0


@dataclass(frozen=True)
class Difference:
    """How far one viewer's image of a camera is from the reference's, in steps of 1/255.

    ``p999`` is the 99.9th percentile, ``fraction_within`` the fraction of pixels within ``TOLERANCE``.
    """

    camera: str
    viewer: str
    reference: str
    maximum: int
    p999: float
    mean: float
    fraction_within: float

    @property
    def is_within(self) -> bool:
        """Whether enough pixels agree."""
        return self.fraction_within >= FRACTION_WITHIN


@dataclass
class Verification:
    """What was found. ``problems`` lists files that are not as the manifest says; ``None`` without a manifest.

    ``skipped`` says of viewers that were left out why.
    """

    scene: str
    viewers: tuple[str, ...]
    size: tuple[int, int]
    problems: list[str] | None
    differences: list[Difference] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def complaint(self) -> str | None:
        """One line on what is wrong, ``None`` if all is well."""
        if self.problems:
            more = f" and {len(self.problems) - 3} more" if len(self.problems) > 3 else ""
            return f"{self.scene}: {'; '.join(self.problems[:3])}{more}; copy or bake the scene again"
        worst = min(self.differences, key=lambda difference: difference.fraction_within, default=None)
        if worst is None or worst.is_within:
            return None
        return (
            f"{worst.viewer} differs from {worst.reference}: at camera {worst.camera} only "
            f"{100 * worst.fraction_within:.3f} % of the pixels agree within {TOLERANCE}/255 "
            f"({100 * FRACTION_WITHIN:.1f} % are needed)"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "scene": self.scene,
            "passed": self.complaint is None,
            "viewers": list(self.viewers),
            "skipped": self.skipped,
            "size": list(self.size),
            "tolerance": TOLERANCE,
            "share_needed": FRACTION_WITHIN,
            "hashes": {"checked": self.problems is not None, "problems": self.problems or []},
            "differences": [asdict(difference) for difference in self.differences],
        }


def compare(image: np.ndarray, reference: np.ndarray, camera: str, viewer: str, against: str) -> Difference:
    """Compare two images, uint8 (H, W, 3)."""
    if image.shape != reference.shape:
        raise ValueError(f"images: expected equal shapes, got {image.shape} and {reference.shape}")
    steps = np.abs(image.astype(np.int16) - reference.astype(np.int16)).max(-1)
    return Difference(
        camera=camera,
        viewer=viewer,
        reference=against,
        maximum=int(steps.max()),
        p999=float(np.percentile(steps, 99.9)),
        mean=float(steps.mean()),
        fraction_within=float((steps <= TOLERANCE).mean()),
    )


def choose_cameras(scene: BakedScene, count: int, size: tuple[int, int]) -> list[tuple[str, Camera]]:
    """Return ``count`` named pinhole cameras of one size.

    Held-out photos of the manifest, spread over the list and over the submodels that they belong to; all photos
    where none is held out; views from the submodels' centres where the scene names no photo.
    """
    entries = [entry for entry in scene.manifest.cameras if entry.split == "test"] or list(
        scene.manifest.cameras
    )
    if not entries:
        return _made_up(scene, count, size)
    groups: dict[int, list[Any]] = {}
    for entry in entries:
        groups.setdefault(scene.params.choose_submodel(entry.camera.world_from_cam[:, 3]), []).append(entry)
    chosen: list[Any] = []
    each, rest = divmod(count, len(groups))
    for index, k in enumerate(sorted(groups)):
        group, wanted = groups[k], each + (index < rest)
        picked = np.linspace(0, len(group) - 1, min(wanted, len(group))).round().astype(int)
        chosen += [group[i] for i in picked]
    return [(entry.name, fit_camera(entry.camera, *size)) for entry in chosen]


def _made_up(scene: BakedScene, count: int, size: tuple[int, int]) -> list[tuple[str, Camera]]:
    width, height = size
    focal = 0.5 * height / math.tan(math.radians(0.5 * _FIELD_DEGREES))
    intrinsics = Intrinsics("PINHOLE", width, height, focal, focal, width / 2, height / 2)
    cameras = []
    # Off the centres and axes, where rays run along cell borders and rounding decides which cell they see.
    aside = np.array([0.031, 0.047, 0.053]) / scene.params.submodel_grid_resolution
    for i in range(count):
        k = i % len(scene.params.params_to_sm)
        angle = math.tau * i / count + 0.3
        c, s = math.cos(angle), math.sin(angle)
        axes = ([c, s, 0.0], [0.0, 0.0, 1.0], [s, -c, 0.0])
        pose = np.stack([*map(np.array, axes), scene.params.submodel_centre(k) + aside], -1)
        cameras.append((f"submodel {k}, {math.degrees(angle):.0f} degrees", Camera(intrinsics, pose)))
    return cameras


def verify_scene(
    root: Path,
    viewers: Sequence[str] = tuple(VIEWERS),
    size: tuple[int, int] = (320, 240),
    cameras: int = 4,
    report: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Check a scene's files against its manifest, then render the same cameras in several viewers and compare.

    Files that differ end the check: their images would say nothing. ``webgpu`` is left out, with the reason in what is
    returned, where the browser has no WebGPU, as long as two viewers are left to compare.

    Args:
        root: Folder of the baked scene.
        viewers: Names from ``VIEWERS``; the first of them in its order is the reference.
        size: Width and height of the images.
        cameras: How many to render.
        report: Folder for ``verify.json`` and ``differences.png``, made if need be.
        progress: Called with images done and in all.

    Raises:
        UsageError: For an unknown viewer or no camera.
        MissingPartError: If this machine cannot run a viewer; the message names it.
        InvalidDataError: If the scene cannot be read.
        VerificationError: If the page refuses to render the scene.
    """
    unknown = sorted(set(viewers) - set(VIEWERS))
    if unknown or not viewers or cameras < 1:
        raise UsageError(
            f"viewers {', '.join(unknown) or 'none'}: choose from {', '.join(VIEWERS)}, and a camera or more"
        )
    names = tuple(name for name in VIEWERS if name in viewers)
    problems = verify_manifest(root) if (root / MANIFEST_NAME).is_file() else None
    result = Verification(str(root), names, size, problems)
    if not problems:
        scene = load_scene(root)
        chosen = choose_cameras(scene, cameras, size)
        shots = [Shot(name, camera) for name, camera in chosen] + _without_object(scene, chosen)
        images, result.skipped = _draw_all(scene, root, names, shots, size, progress)
        result.viewers = names = tuple(name for name in names if name not in result.skipped)
        for shot, row in zip(shots, images):
            for name in names[1:]:
                if name in row and names[0] in row:
                    result.differences.append(compare(row[name], row[names[0]], shot.name, name, names[0]))
        if report is not None:
            report.mkdir(parents=True, exist_ok=True)
            _write_sheet(report / "differences.png", names, [shot.name for shot in shots], images)
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        (report / "verify.json").write_text(json.dumps(result.to_json(), indent=1), encoding="utf-8")
    return result


@dataclass(frozen=True)
class Shot:
    """A picture that all viewers draw: its name, its camera, and the objects that it leaves out."""

    name: str
    camera: Camera
    hidden: tuple[int, ...] = ()


def _without_object(scene: BakedScene, cameras: Sequence[tuple[str, Camera]]) -> list[Shot]:
    """Return a shot without the object that is largest in one of the cameras; none where no object is seen."""
    from smerf.render.march import render_ids

    best, shots = 0, []
    if not scene.manifest.objects:
        return []
    for name, camera in cameras:
        pixels = np.bincount(render_ids(scene, camera).reshape(-1), minlength=256)
        for each in scene.manifest.objects:
            if pixels[each.id] > best:
                best, shots = int(pixels[each.id]), [Shot(f"{name} without {each.name}", camera, (each.id,))]
    return shots


def _draw_all(
    scene: BakedScene,
    root: Path,
    names: tuple[str, ...],
    shots: Sequence[Shot],
    size: tuple[int, int],
    progress: Callable[[int, int], None],
) -> tuple[list[dict[str, np.ndarray]], dict[str, str]]:
    """Return the images of each shot by viewer, and why a viewer was left out."""
    rows: list[dict[str, np.ndarray]] = [{} for _ in shots]
    skipped: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        # All start before one renders, so that what is missing is told at once.
        opened = []
        for name in names:
            try:
                viewer = open_viewer(name, scene, root, size)
            except NoWebGPUError as error:
                if len(names) < 3:
                    raise
                skipped[name] = str(error.__cause__ or error)
                continue
            stack.callback(viewer.close)
            opened.append(viewer)
        done, total = 0, len(opened) * len(shots)
        for viewer in opened:
            for row, shot in zip(rows, shots):
                if not shot.hidden or viewer.hide(shot.hidden):
                    row[viewer.name] = viewer.draw(shot.camera)
                done += 1
                progress(done, total)
    return rows, skipped


def _write_sheet(
    path: Path, names: tuple[str, ...], cameras: list[str], rows: list[dict[str, np.ndarray]]
) -> None:
    """Write a row per camera: every viewer's image, then the differences to the first, amplified.

    What a viewer could not draw stays black.
    """
    from PIL import Image, ImageDraw

    height, width = rows[0][names[0]].shape[:2]
    titles = [*names, *(f"{name} - {names[0]}, x{_AMPLIFICATION}" for name in names[1:])]
    gap, text = 6, 16
    sheet = Image.new(
        "RGB",
        (len(titles) * (width + gap) + gap, len(rows) * (height + text + gap) + text + gap),
        (24, 26, 30),
    )
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((gap + column * (width + gap), 2), title, fill=(235, 238, 242))
    for index, (camera, row) in enumerate(zip(cameras, rows)):
        top = text + index * (height + text + gap)
        draw.text((gap, top + 2), camera, fill=(160, 165, 172))
        row = {name: row.get(name, np.zeros((height, width, 3), np.uint8)) for name in names}
        first = row[names[0]].astype(np.int16)
        shown = [row[name] for name in names]
        for name in names[1:]:
            steps = np.abs(row[name].astype(np.int16) - first) * _AMPLIFICATION
            shown.append(np.minimum(steps, 255).astype(np.uint8))
        for column, image in enumerate(shown):
            sheet.paste(Image.fromarray(image), (gap + column * (width + gap), top + text))
    sheet.save(path)
