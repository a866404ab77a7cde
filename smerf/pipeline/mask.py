"""Masks of what moved in a capture, as files: by the residual of a run's teacher, of people, or by motion in a video.

The segmenter of people takes a table in the foreground for one now and then, so its people are masked only where they
differ from the scene; where no teacher knows the scene, if they are in three photos in a row, and only when asked for.
Masks that the capture has already are joined with what is found and never loosened.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from smerf.capture.masks import FORMAT, MASKS, RECORD, mask_name, read_record, write_mask
from smerf.engine.files import write_json
from smerf.errors import InvalidDataError, UsageError
from smerf.pipeline.video_frames import FRAMES, frames_capture

if TYPE_CHECKING:
    from smerf.capture.types import Capture, Frame
    from smerf.engine.folder import RunFolder
    from smerf.evaluation.mask_sheet import MaskedPhoto

__all__ = ["SIDE", "By", "Masked", "Masking", "find_moving_things", "mask_capture", "open_capture"]

By = Literal["auto", "residual", "people", "motion"]
SIDE = 640
"""Longest side in pixels at which photos are looked at."""
_GIVEN = "given"
"""Folder below the masks for those that the capture had before."""
_MAX_PHOTO, _MAX_ALL = 0.4, 0.1
_MIN_AREA = 0.005
_IN_A_ROW = 3
_MIN_DIFFERING = 0.33
_BUDGET = 4_000_000
"""Pixels of all photos together that the teacher is asked for."""
_MIN_SIZE = 1e-3
"""Smallest area of a person, as a fraction of the photo."""


@dataclass(frozen=True)
class Masked:
    """What was written, and how much of the photos is masked, masks that were there before included."""

    folder: Path
    sheet: Path
    photos: int
    met: int
    share: float
    has_poses: bool = True


@dataclass
class Masking:
    """What was found: where each photo's pixels are ignored, bool (H, W) at the size of ``capture``'s cameras, and by
    what.
    """

    capture: Capture
    moving: dict[str, np.ndarray] = field(default_factory=dict)
    by: dict[str, list[str]] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, where: np.ndarray, kind: str) -> None:
        """Ignore more pixels of a photo, unless they are most of it."""
        joined = where | self.moving.get(name, np.zeros_like(where))
        if where.any() and joined.mean() <= _MAX_PHOTO:
            self.moving[name] = joined
            self.by.setdefault(name, []).append(kind)

    @property
    def share(self) -> float:
        """Return which fraction of all photos' pixels is ignored."""
        return sum(float(each.mean()) for each in self.moving.values()) / max(1, len(self.capture.frames))


def find_moving_things(
    capture: Capture,
    run: RunFolder | None,
    device: str = "cpu",
    by: By = "auto",
    progress: Callable[[int, int], None] | None = None,
    *,
    step: int = 1,
    model: Path | None = None,
) -> Masking:
    """Find what moved in a capture.

    Args:
        capture: The photos, at any size.
        run: A run of the same capture whose teacher is trained; without one only people are found.
        device: Where the teacher is asked.
        by: ``residual`` and ``people`` take one of both alone; ``people`` still asks the teacher whether they moved.
            ``motion`` compares each photo with those before and after it, as frames of a video.
        progress: Called as ``progress(photos, all)``.
        step: For ``motion``, photos that make about a tenth of a second.
        model: For ``motion``, the model that looks at what differs.

    Raises:
        UsageError: If there is no run and anything but ``people`` or ``motion`` is asked for.
    """
    if by == "motion":
        return _by_motion(Masking(capture), step, model, progress)
    if by != "people" and run is None:
        raise UsageError(
            f"{capture.root}: only a trained teacher can tell what moved: name its run with --run RUN; or give "
            "--by motion for the frames of a video, or --by people, and look at the contact sheet: both make mistakes"
        )
    masking = Masking(capture)
    differs = None if run is None else _by_residual(masking, run, device, is_used=by != "people")
    if by != "residual":
        _by_people(masking, differs, progress)
    return masking


def _by_residual(masking: Masking, run: RunFolder, device: str, *, is_used: bool) -> dict[str, np.ndarray]:
    """Mask what differs from the run's teacher in the training photos, if enough of it is certain.

    Returns:
        Where each photo, held-out ones too, differs more than its place does.
    """
    import torch

    from smerf.pipeline.renderers import run_teacher
    from smerf.teacher.residuals import reduce_photo, reduction, score_photos
    from smerf.teacher.robust import CERTAIN, enlarge, find_moving

    teacher, frames = run_teacher(run, device), masking.capture.frames
    photos, factors = [], []
    for frame in frames:
        pixels, used = _photo(frame)
        factors.append(reduction((used.shape[1], used.shape[0]), len(frames), _BUDGET))
        photos.append(reduce_photo(frame.camera, pixels, used, teacher.background, factors[-1]))
    scores = score_photos(teacher, photos, torch.device(device))
    certain = [find_moving(score, rule=CERTAIN) for score in scores]
    area = float(np.mean([each.mean() for each in certain]))
    folder = run.folder("teacher") / MASKS
    record = read_record(folder)
    is_used &= bool(area > _MIN_AREA or record)
    if is_used:
        masking.sources.append({"kind": "residual", "teacher": _digest(run), "certain": area})
    differs = {}
    for frame, factor, score, sure in zip(frames, factors, scores, certain):
        size = (frame.camera.intrinsics.height, frame.camera.intrinsics.width)
        differs[frame.name] = enlarge(find_moving(score), factor, size)
        # In held-out photos the residual would mask what the scene is measured by.
        if is_used and frame.split == "train":
            where = _left_out(folder / mask_name(frame.name), size) if record else enlarge(sure, factor, size)
            masking.add(frame.name, where, "residual")
    return differs


def _left_out(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return what the teacher's training left out of a photo, bool of a size (H, W)."""
    with Image.open(path) as mask:
        ignored: np.ndarray = np.asarray(mask.resize(size[::-1], Image.Resampling.NEAREST)) == 0
    return ignored


def _by_people(
    masking: Masking, differs: dict[str, np.ndarray] | None, progress: Callable[[int, int], None] | None
) -> None:
    from smerf.vision.people import find_people, shipped_record

    frames = masking.capture.frames
    found = []
    for done, frame in enumerate(frames, 1):
        found.append(find_people(_photo(frame)[0]))
        if progress is not None:
            progress(done, len(frames))
    for index, frame in enumerate(frames):
        around = found[max(0, index - _IN_A_ROW + 1) : index + _IN_A_ROW]
        is_lasting = _longest_row([bool(each.any()) for each in around]) >= _IN_A_ROW
        differing = np.full_like(found[index], is_lasting) if differs is None else differs[frame.name]
        masking.add(frame.name, _confirmed(found[index], differing), "people")
    masking.sources.append({"kind": "people", **shipped_record()})


def _by_motion(
    masking: Masking, step: int, model: Path | None, progress: Callable[[int, int], None] | None
) -> Masking:
    """Mask what changes between the photos around each after the camera's own motion is taken out."""
    from smerf.pipeline.video_frames import compared_frames
    from smerf.vision.motion import find_motion, source_of
    from smerf.vision.walkers import load_walkers

    done, count = 0, len(masking.capture.frames)

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, count)

    frames = compared_frames(masking.capture)
    found = find_motion(frames, None if model is None else load_walkers(model), step, report)
    for frame, where in zip(masking.capture.frames, found):
        size = (frame.camera.intrinsics.width, frame.camera.intrinsics.height)
        whole = Image.fromarray(where).resize(size, Image.Resampling.NEAREST)
        masking.add(frame.name, np.asarray(whole), "motion")
    masking.sources.append({"kind": "motion", **source_of(model)})
    return masking


def _confirmed(people: np.ndarray, differing: np.ndarray) -> np.ndarray:
    """Return the people a third of whom differs from the scene, and a little around them."""
    from scipy.ndimage import binary_dilation, label

    labels, count = label(people)
    confirmed = np.zeros_like(people)
    for number in range(1, count + 1):
        person = labels == number
        if _MIN_SIZE < person.mean() < _MAX_PHOTO and differing[person].mean() > _MIN_DIFFERING:
            confirmed |= person
    margin = max(1, round(0.01 * max(people.shape)))
    return (
        binary_dilation(confirmed, np.ones((3, 3), bool), iterations=margin) if confirmed.any() else confirmed
    )


def _longest_row(flags: list[bool]) -> int:
    longest = row = 0
    for flag in flags:
        row = row + 1 if flag else 0
        longest = max(longest, row)
    return longest


def _photo(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    from smerf.capture import load_image, load_mask

    pixels, mask = load_image(frame), load_mask(frame)
    return pixels, np.ones(pixels.shape[:2], bool) if mask is None else mask


def _digest(run: RunFolder) -> str:
    stage = run.stage("teacher")
    return "" if stage is None else stage.digest


def open_capture(root: Path | None, run: RunFolder | None, data: Path | None = None) -> Capture:
    """Return the capture in ``root``, or that of a run, with its photos reduced to what is looked at.

    Raises:
        UsageError: If the run has no finished teacher, or its photos are gone.
    """
    from smerf.capture import load_capture
    from smerf.pipeline.config import load_config
    from smerf.pipeline.job import load_run_capture

    if run is not None and run.stage("teacher") is None:
        raise UsageError(f"{run.path}: has no finished teacher; smerf train makes one")
    if root is None:
        assert run is not None
        root = load_run_capture(run, load_config(run), data).root
    return load_capture(root, max_side=SIDE)


def mask_capture(
    capture: Capture,
    run: RunFolder | None,
    device: str = "cpu",
    by: By = "auto",
    *,
    yes: bool = False,
    progress: Callable[[int, int], None] | None = None,
    step: int = 1,
    model: Path | None = None,
) -> Masked:
    """Find what moved (``find_moving_things``), and write masks beside the photos at their own size, ``record.json``,
    and the contact sheet ``masks.html``.

    What the capture had stays in ``masks/given`` and is joined: running this again gives the same.

    Raises:
        UsageError: If more than a tenth of all pixels would be ignored and ``yes`` is off; the sheet is written.
        InvalidDataError: If the capture has masks of the other polarity.
    """
    from smerf.evaluation.mask_sheet import write_mask_sheet

    root = capture.root
    masking = find_moving_things(
        _with_given_masks(capture), run, device, by, progress, step=step, model=model
    )
    root.mkdir(parents=True, exist_ok=True)
    sheet = root / "masks.html"
    write_mask_sheet(sheet, root.name, _shown(masking))
    if masking.share > _MAX_ALL and not yes:
        raise UsageError(
            f"{root}: {100 * masking.share:.0f} % of all pixels would be masked, which is much; look at {sheet}, "
            "then give --yes"
        )
    shares = _write_masks(masking, root / MASKS)
    met = sum(share > 0.0 for share in shares)
    is_posed = capture.kind != FRAMES
    return Masked(root / MASKS, sheet, len(capture.frames), met, sum(shares) / len(capture.frames), is_posed)


def _shown(masking: Masking) -> Iterator[MaskedPhoto]:
    from smerf.evaluation.mask_sheet import MaskedPhoto

    for frame in masking.capture.frames:
        pixels, used = _photo(frame)
        ignored = ~used | masking.moving.get(frame.name, np.zeros_like(used))
        yield MaskedPhoto(frame.name, pixels, ignored, tuple(masking.by.get(frame.name, ())))


def _write_masks(masking: Masking, folder: Path) -> list[float]:
    """Write masks and record; return the share of each masked photo that is ignored."""
    from smerf.capture import load_mask
    from smerf.teacher.robust import enlarge

    photos: dict[str, Any] = {}
    reduced = {frame.name: frame for frame in masking.capture.frames}
    ours = read_record(folder)
    is_video = masking.capture.kind == FRAMES
    for frame in _whole_frames(masking.capture):
        moving = masking.moving.get(frame.name)
        given = load_mask(_keep(_with_given_mask(frame, folder, ours), folder))
        is_ours = ours is not None and frame.name in ours["photos"]
        # Of a video all frames get one: nobody knows yet which of them are chosen.
        if moving is None and given is None and not is_ours and not (is_video and masking.moving):
            continue
        size = (frame.camera.intrinsics.height, frame.camera.intrinsics.width)
        used = np.ones(size, bool) if given is None else given
        if moving is not None:
            used &= ~enlarge(moving, reduced[frame.name].downscale // frame.downscale, size)
        write_mask(frame.mask_path or folder / mask_name(frame.name), used)
        photos[frame.name] = {"share": float(1.0 - used.mean()), "by": masking.by.get(frame.name, [])}
    if photos:
        record = {"format": FORMAT, "sources": masking.sources, "photos": dict(sorted(photos.items()))}
        write_json(folder / RECORD, record)
    return [photo["share"] for photo in photos.values()]


def _whole_frames(capture: Capture) -> tuple[Frame, ...]:
    """Return the photos of a capture at their own size."""
    from smerf.capture import load_capture

    if capture.kind != FRAMES:
        return load_capture(capture.root).frames
    return frames_capture(capture.root, [frame.image_path for frame in capture.frames]).frames


def _with_given_masks(capture: Capture) -> Capture:
    """Return a capture with the masks that it came with, without those that were written here before."""
    folder = capture.root / MASKS
    ours = read_record(folder)
    return replace(capture, frames=tuple(_with_given_mask(frame, folder, ours) for frame in capture.frames))


def _with_given_mask(frame: Frame, folder: Path, ours: dict[str, Any] | None) -> Frame:
    path, kept = frame.mask_path, folder / _GIVEN / mask_name(frame.name)
    if path is not None and path.name.startswith("dynamic_mask_"):
        raise InvalidDataError(
            f"{path}: masks of this polarity are not joined; write them to {folder}, inverted"
        )
    if path is None or kept.is_file():
        return replace(frame, mask_path=kept if kept.is_file() else None)
    return replace(frame, mask_path=None) if ours is not None and frame.name in ours["photos"] else frame


def _keep(given: Frame, folder: Path) -> Frame:
    """Copy the mask that a photo came with to where it is found when it is written over."""
    kept = folder / _GIVEN / mask_name(given.name)
    if given.mask_path is None or given.mask_path == kept:
        return given
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(given.mask_path, kept)
    return replace(given, mask_path=kept)
