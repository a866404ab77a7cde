"""From matches to one model: both mappers, cleaned and judged, and a ladder of further attempts.

Neither mapper wins everywhere: the global one folds buildings that look alike on two sides, the incremental one tears
long walks apart. So both run, and the larger model that passes the checks is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from smerf.prepare.checks import MAX_STEP, MIN_AGREEMENT, Checks, Place, agreement, check, neighbour_steps
from smerf.prepare.cleaning import Cleaned, clean
from smerf.prepare.colmap import Pair, call, read_keypoint_counts, read_pairs
from smerf.prepare.diagnosis import MIN_INLIERS, Evidence, gather_evidence
from smerf.prepare.features import Level, Workshop, choose_level, match_photos, weak_joints
from smerf.prepare.intake import Photo
from smerf.prepare.model import Model, load_model

__all__ = ["Candidate", "Outcome", "map_photos", "places_of"]

_ENOUGH = 0.95
_MIN_PHOTOS = 8


_MIN_DETAILS = 20
"""Median keypoints a photo below which no attempt is worth its time: a model needs as many points a photo."""


@dataclass(frozen=True)
class Candidate:
    """One mapper's largest model after cleaning, with its checks.

    ``others`` are the photos of the mapper's further models; ``rejected`` says why it cannot be right; ``jump``
    is what was measured before the path was cut at a jump.
    """

    mapper: str
    attempt: str
    folder: Path
    model: Model
    cleaned: Cleaned
    raw: int
    checks: Checks
    total: int
    others: tuple[tuple[str, ...], ...] = ()
    rejected: str = ""
    jump: Checks | None = None

    @property
    def fraction(self) -> float:
        """Registered fraction."""
        return len(self.model.names) / self.total


@dataclass
class Outcome:
    """What came out: all candidates in order, the chosen one if any, the photos (extra frames included), evidence of
    the first attempt, and the agreement of both mappers where it could be measured.
    """

    photos: list[Photo]
    evidence: Evidence
    candidates: list[Candidate] = field(default_factory=list)
    chosen: Candidate | None = None
    agreement: tuple[float, float, float] | None = None
    database: Path | None = None


def places_of(photos: Sequence[Photo]) -> dict[str, Place]:
    """Return where each photo stands in the capture."""
    return {photo.name: Place(photo.sequence, photo.number, photo.time) for photo in photos}


def map_photos(
    shop: Workshop,
    photos: list[Photo],
    add_frames: Callable[[list[Photo], list[tuple[Photo, Photo]]], list[Photo]],
) -> Outcome:
    """Find the poses of photos.

    Args:
        shop: Where and how.
        photos: All of them, in capture order.
        add_frames: Makes two more frames between each of some pairs, and returns all photos renumbered.
    """
    level = choose_level(photos)
    database = match_photos(shop, photos, level)
    pairs = _between(photos, read_pairs(database))
    keypoints = read_keypoint_counts(database)
    outcome = Outcome(photos, gather_evidence(photos, keypoints, pairs, shop.config.order))
    if outcome.evidence.is_rotation or outcome.evidence.keypoints < _MIN_DETAILS:
        return outcome
    for attempt in _attempts(shop, outcome, level, database, add_frames):
        outcome.candidates += attempt
        _choose(outcome)
        if _is_enough(outcome.chosen):
            break
    return outcome


def _attempts(
    shop: Workshop,
    outcome: Outcome,
    level: Level,
    database: Path,
    add_frames: Callable[[list[Photo], list[tuple[Photo, Photo]]], list[Photo]],
) -> Iterator[list[Candidate]]:
    """Do one attempt after the other: plain, with more frames, with more features, with relaxed limits."""
    outcome.database = database
    yield _run_mappers(shop, outcome.photos, database, "first")
    joints = weak_joints(outcome.photos, _between(outcome.photos, read_pairs(database)))
    if joints:
        known = {photo.name for photo in outcome.photos}
        outcome.photos = add_frames(outcome.photos, joints)
        extra = [photo.name for photo in outcome.photos if photo.name not in known]
        match_photos(shop, outcome.photos, level, extra)
        yield _run_mappers(shop, outcome.photos, database, "more-frames")
    if (level.deeper().features, level.deeper().first_octave) != (level.features, level.first_octave):
        outcome.database = database = match_photos(shop, outcome.photos, level.deeper())
        yield _run_mappers(shop, outcome.photos, database, "more-features")
    if shop.config.mapper != "global" and outcome.candidates:
        yield _run_mapper(shop, outcome.photos, database, "incremental", "relaxed")


def _between(photos: Sequence[Photo], pairs: Sequence[Pair]) -> list[Pair]:
    names = {photo.name for photo in photos}
    return [pair for pair in pairs if pair.first in names and pair.second in names]


def _run_mappers(shop: Workshop, photos: Sequence[Photo], database: Path, attempt: str) -> list[Candidate]:
    if not any(pair.inliers >= MIN_INLIERS for pair in read_pairs(database)):
        return []
    wanted = shop.config.mapper
    mappers = ("incremental", "global") if wanted == "auto" else (wanted,)
    return [
        candidate for mapper in mappers for candidate in _run_mapper(shop, photos, database, mapper, attempt)
    ]


def _run_mapper(
    shop: Workshop, photos: Sequence[Photo], database: Path, mapper: str, attempt: str
) -> list[Candidate]:
    """Run a mapper unless its models are there, and judge its best one; none or one candidate."""
    output = database.parent / f"{mapper}-{attempt}"
    if not (output / "done").is_file():
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        arguments = {
            "database": str(database),
            "images": str(shop.images),
            "output": str(output),
            "threads": shop.config.threads or -1,
            "seed": shop.config.seed,
        }
        if attempt == "relaxed":
            arguments["relaxed"] = True
        counter = output / "registered"
        total = len(photos) if mapper == "incremental" else None
        with shop.progress(f"{mapper} mapper", "photos", total) as progress:
            call(
                f"map_{mapper}", arguments, shop.log, shop.config.threads,
                lambda: progress.update(_read_count(counter)),
            )  # fmt: skip
        (output / "done").touch()
    models = [(path.parent, load_model(path)) for path in sorted(output.glob("*/model.npz"))]
    return judge(models, photos, mapper, attempt, shop.config.min_link)


def _read_count(path: Path) -> int:
    try:
        return int(path.read_text() or 0)
    except (OSError, ValueError):
        return 0


def judge(
    models: Sequence[tuple[Path, Model]], photos: Sequence[Photo], mapper: str, attempt: str, min_link: int
) -> list[Candidate]:
    """Clean and check the models of one mapper; return the largest as a candidate, or nothing."""
    if not models:
        return []
    places, total = places_of(photos), len(photos)
    cleaned = [(folder, model, clean(model, min_link)) for folder, model in models]
    cleaned.sort(key=lambda entry: -len(entry[2].model.names))
    folder, raw, best = cleaned[0]
    others = tuple(entry[1].names for entry in cleaned[1:])
    model = best.model
    checks = check(model, places, total)
    is_video = any(photo.is_video for photo in photos)
    jump = None
    if is_video and checks.is_torn:
        model = longest_part(model, places)
        jump, checks = checks, check(model, places, total)
    rejected = _reason(checks, model, is_video)
    return [
        Candidate(mapper, attempt, folder, model, best, len(raw.names), checks, total, others, rejected, jump)
    ]


def _reason(checks: Checks, model: Model, is_video: bool) -> str:
    if len(model.names) < 3:
        return "empty"
    if checks.is_folded:
        return "folded"
    if is_video and checks.is_torn:
        return "torn"
    return "" if checks.has_plausible_intrinsics else "intrinsics"


def longest_part(model: Model, places: dict[str, Place]) -> Model:
    """Cut a camera path where it jumps and return the longest part."""
    pairs, steps = neighbour_steps(model, places)
    jumps = {pair[1] for pair, step in zip(pairs, steps) if step > MAX_STEP * np.median(steps)}
    order = sorted(
        range(len(model.names)),
        key=lambda i: (places[model.names[i]].sequence, places[model.names[i]].number),
    )
    parts: list[list[int]] = [[]]
    for index in order:
        if model.names[index] in jumps:
            parts.append([])
        parts[-1].append(index)
    longest: list[int] = max(parts, key=len)
    return model.keep(sorted(longest))


def _choose(outcome: Outcome) -> None:
    passing = [candidate for candidate in outcome.candidates if not candidate.rejected]
    if not passing:
        return
    best = max(passing, key=lambda candidate: (candidate.fraction, candidate.mapper == "incremental"))
    rival = next((c for c in passing if c.mapper != best.mapper and c.attempt == best.attempt), None)
    outcome.chosen, outcome.agreement = best, None
    if rival is not None:
        outcome.agreement = agreement(best.model, rival.model)
        is_comparable = len(rival.model.names) >= len(best.model.names) / 2
        disagree = outcome.agreement is not None and outcome.agreement[0] < MIN_AGREEMENT
        if disagree and is_comparable and rival.mapper == "incremental":
            outcome.chosen = rival


def _is_enough(chosen: Candidate | None) -> bool:
    """Return whether no further attempt is due: 95 % of the photos are posed, or all but one."""
    if chosen is None:
        return False
    count = len(chosen.model.names)
    return count >= _MIN_PHOTOS and count >= min(_ENOUGH * chosen.total, chosen.total - 1)
