"""``smerf prepare``: photos or a video in, a posed capture out, with a verdict."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from smerf.capture.readers import has_poses
from smerf.capture.readers.image_files import list_images
from smerf.engine.files import write_json
from smerf.engine.folder import stage_key
from smerf.engine.lock import FolderLock
from smerf.engine.progress import Progress
from smerf.engine.settings import to_dict
from smerf.errors import InvalidDataError, UsageError
from smerf.prepare.colmap import call, database_folder, require_pycolmap
from smerf.prepare.config import PrepareConfig
from smerf.prepare.features import Workshop, reset_if_changed
from smerf.prepare.gather import add_frames, find_masks, gather, masks_beside
from smerf.prepare.intake import find_inputs, input_digest
from smerf.prepare.mapping import Outcome, map_photos
from smerf.prepare.model import Model, load_model
from smerf.prepare.record import Result, describe, read_verdict
from smerf.prepare.report import write_report
from smerf.prepare.verdict import Verdict, decide
from smerf.prepare.write import place, write_capture

__all__ = ["Prepared", "prepare"]

_FORMAT = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What came of it: the capture's folder, and the verdict."""

    folder: Path
    verdict: Verdict

    @property
    def report(self) -> Path:
        """The report page."""
        return self.folder / "prepare" / "report.html"


def prepare(
    what: Path | str | Sequence[Path | str],
    output: Path | str,
    config: PrepareConfig | None = None,
    *,
    masks: Path | None = None,
    overwrite: bool = False,
    keep_database: bool = False,
    undistort: bool = False,
    progress: Callable[[str, str, float | None], Progress] | None = None,
) -> Prepared:
    """Turn photos or videos into a posed capture.

    Work that is done is kept, so the same call continues one that was stopped.

    Args:
        what: A folder of photos, a video, or several of either.
        output: Folder of the capture.
        config: Settings.
        masks: Folder of masks, named like the photos; black is ignored. ``masks`` in the folder of the photos if not
            given.
        overwrite: Replace a capture of other photos.
        keep_database: Leave COLMAP's databases and all models in ``prepare/work``.
        undistort: Also write images without distortion and their COLMAP model to ``undistorted/``.
        progress: Makes the progress of a step from its name, unit and total; lines on standard error by default.

    Raises:
        MissingPartError: If pycolmap is not installed.
        UsageError: If there are no photos, or the folder holds something else.
        InvalidDataError: If no poses can be found; the message says why and what to do. ``prepare/report.html`` is
            written all the same.

    Example:
        >>> smerf.prepare("photos/flat", "captures/flat").verdict.summary  # doctest: +SKIP
        '96 of 100 photos posed'
    """
    config, output = config or PrepareConfig(), Path(output)
    paths = [Path(path) for path in ([what] if isinstance(what, (str, Path)) else what)]
    inputs = find_inputs(paths)
    for posed in [path for path in paths if path.is_dir() and has_poses(path)]:
        _log.warning("%s: has poses, which are not used; smerf run takes it as it is", posed)
    masks = masks or masks_beside(paths)
    key = _key(inputs, config, masks)
    _check_output(paths, output, key, overwrite)
    if _finished(output, key, undistort) is None:
        require_pycolmap()
    folder = output / "prepare"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder / ".lock")
    lock.acquire()
    try:
        done = _finished(output, key, undistort)
        if done is None:
            (folder / "key").write_text(key)
            (output / "transforms.json").unlink(missing_ok=True)
            work = database_folder(folder)
            reset_if_changed(work, {"key": key})
            shop = Workshop(work, output / "images", config, None, progress or _progress)
            done = _prepare(shop, inputs, output, key, masks, undistort)
            if not keep_database:
                shutil.rmtree(work, ignore_errors=True)
        if not keep_database:
            shutil.rmtree(folder / "work", ignore_errors=True)
        return done
    finally:
        lock.release()


def _progress(name: str, unit: str, total: float | None) -> Progress:
    return Progress(f"prepare: {name}", total, unit, stops=True)


def _key(inputs: Sequence[Sequence[Path]], config: PrepareConfig, masks: Path | None) -> str:
    files = list_images(masks) if masks is not None and masks.is_dir() else []
    if masks is not None and not files:
        raise UsageError(f"{masks}: is no folder with masks")
    return stage_key(
        {"format": _FORMAT, "config": to_dict(config), "masks": input_digest([files])}, input_digest(inputs)
    )


def _check_output(paths: Sequence[Path], output: Path, key: str, overwrite: bool) -> None:
    for path in paths:
        if path.is_dir() and output.resolve() in (path.resolve(), *path.resolve().parents):
            raise UsageError(f"{output}: holds the photos themselves; give another folder with -o")
        if path.is_dir() and path.resolve() in output.resolve().parents:
            raise UsageError(f"{output}: lies within the photos; give a folder elsewhere with -o")
    if not output.exists():
        return
    if not output.is_dir():
        raise UsageError(f"{output}: is a file; give a folder with -o")
    record = output / "prepare" / "key"
    is_ours = record.is_file() or not any(name for name in os.listdir(output) if name != "prepare")
    if not is_ours and not overwrite:
        raise UsageError(f"{output}: holds other files; give another folder with -o, or --overwrite")
    is_complete = record.is_file() and (output / "transforms.json").is_file()
    if is_complete and record.read_text() != key and not overwrite:
        raise UsageError(
            f"{output}: holds a capture of other photos or settings; give another folder with -o, or --overwrite"
        )


def _prepare(
    shop: Workshop,
    inputs: Sequence[Sequence[Path]],
    output: Path,
    key: str,
    masks: Path | None,
    undistort: bool,
) -> Prepared:
    folder, began, worked = output / "prepare", time.monotonic(), _cpu_seconds()
    gathered = gather(shop, inputs, key)
    kept = [photo for photo in gathered.photos if not photo.dropped]
    if len(kept) < 2:
        repeated = len(gathered.photos) - len(kept)
        raise InvalidDataError(
            f"{inputs[0][0]}: there is only {len(kept)} usable photo"
            + (f" ({repeated} others repeat it)" if repeated else "")
            + "; give a folder of at least 8, better 30 to 100, or a video"
        )
    shutil.rmtree(output / "masks", ignore_errors=True)
    if masks is not None:
        count = find_masks(masks, kept, output / "masks")
        _log.info("%s: masks of %d of %d photos; black is ignored", masks, count, len(kept))
        shop = replace(shop, masks=_colmap_masks(output / "masks", shop.folder))
    outcome = map_photos(shop, kept, lambda photos, joints: add_frames(shop, photos, joints))
    verdict = decide(outcome)
    model = _finish(shop, folder, outcome) if outcome.chosen is not None else None
    placement = None if model is None else place(model, outcome.photos, shop.config.scale_from)
    spent = (time.monotonic() - began, _cpu_seconds() - worked)
    result = Result(gathered, outcome, verdict, model, placement, shop.config, *spent)
    record = describe(result)
    write_json(folder / "prepare.json", record)
    write_report(output, result, record)
    if model is None or placement is None or verdict.state == "failed":
        findings = " ".join(finding.text for finding in verdict.findings)
        raise InvalidDataError(f"{output}: these photos do not work. {findings} See {folder / 'report.html'}")
    if undistort:
        _undistort(shop, output)
    for finding in verdict.findings:
        _log.warning("%s", finding.text)
    # The last file: a folder that has it is complete.
    write_capture(output, model, outcome.photos, placement, verdict.total, masks=output / "masks")
    return Prepared(output, verdict)


def _cpu_seconds() -> float:
    """Return the processor time of this process and of the jobs that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _finished(output: Path, key: str, undistort: bool) -> Prepared | None:
    """Return the result of an earlier call that finished."""
    mark = output / "prepare" / "key"
    if not (mark.is_file() and mark.read_text() == key and (output / "transforms.json").is_file()):
        return None
    if undistort and not (output / "undistorted").is_dir():
        return None
    return Prepared(output, read_verdict(output / "prepare" / "prepare.json"))


def _colmap_masks(masks: Path, work: Path) -> Path:
    """Link masks under the names that COLMAP looks for: NAME.jpg.png."""
    folder = work / "masks"
    folder.mkdir(exist_ok=True)
    for mask in sorted(masks.glob("*.png")):
        shutil.copyfile(mask, folder / f"{mask.stem}.jpg.png")
    return folder


def _finish(shop: Workshop, folder: Path, outcome: Outcome) -> Model:
    assert outcome.chosen is not None
    sparse = folder / "sparse" / "0"
    shutil.rmtree(folder / "sparse", ignore_errors=True)
    arguments = {
        "model": str(outcome.chosen.folder),
        "output": str(sparse),
        "names": list(outcome.chosen.model.names),
        "threads": shop.config.threads or -1,
    }
    with shop.progress("refine", "models", 1) as progress:
        call("finish", arguments, shop.log, shop.config.threads, lambda: progress.update(0))
    model = load_model(sparse / "model.npz")
    (sparse / "model.npz").unlink()
    return model


def _undistort(shop: Workshop, output: Path) -> None:
    arguments = {
        "images": str(shop.images),
        "model": str(output / "prepare" / "sparse" / "0"),
        "output": str(output / "undistorted"),
    }
    with shop.progress("undistort", "folders", 1) as progress:
        call("undistort", arguments, shop.log, shop.config.threads, lambda: progress.update(0))
