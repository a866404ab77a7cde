"""What is wrong with a capture or its scene, and what to do about it, from what a run knows.

``smerf.evaluation.evidence`` holds measurements; ``diagnose`` turns them into findings with advice, and one sentence of
verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from smerf.evaluation.evidence import EXTRAPOLATION_DEGREES, THRESHOLDS, Evidence, PhotoEvidence
from smerf.evaluation.loss import largest_loss

__all__ = ["Diagnosis", "Finding", "diagnose", "is_extrapolated"]

_ENOUGH_PHOTOS = 8
"""Fewer photos have no typical one to be compared with."""


@dataclass(frozen=True)
class Finding:
    """One thing that stands out. ``fault`` is one of the photos, ``advice`` anything that would help."""

    kind: str
    level: Literal["fault", "advice"]
    short: str
    text: str
    advice: str
    photos: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """The verdict in one sentence, its two ratings and the findings, faults first."""

    verdict: str
    capture: Literal["good", "faulty"]
    quality: Literal["good", "fair", "poor", "unknown"]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        document = asdict(self)
        document["findings"] = [
            finding | {"photos": list(finding["photos"])} for finding in document["findings"]
        ]
        return document


def diagnose(evidence: Evidence) -> Diagnosis:
    """Weigh the evidence."""
    of_photos = (
        _blur, _poses, _exposure, _isolated, _few_photos, _start_view, _floaters,
        _generalisation, _losses, _unexplained, _detail, _extrapolation,
    )  # fmt: skip
    rules = (_losses,) if evidence.is_rendered else of_photos
    found = [finding for rule in rules if (finding := rule(evidence)) is not None]
    found.sort(key=lambda finding: finding.level != "fault")
    quality = _quality(evidence.psnr)
    faults = [finding for finding in found if finding.level == "fault"]
    return Diagnosis(
        _sentence(evidence, quality, found), "faulty" if faults else "good", quality, tuple(found)
    )


def is_extrapolated(degrees: float) -> bool:
    """Return whether a held-out view at this angle from the nearest training photo counts as extrapolated."""
    return degrees > EXTRAPOLATION_DEGREES


def _quality(psnr: Mapping[str, float]) -> Literal["good", "fair", "poor", "unknown"]:
    if not psnr:
        return "unknown"
    last = list(psnr.values())[-1]
    return "good" if last >= THRESHOLDS["good_db"] else "fair" if last >= THRESHOLDS["fair_db"] else "poor"


def _sentence(evidence: Evidence, quality: str, found: Sequence[Finding]) -> str:
    faults = [finding.short for finding in found if finding.level == "fault"]
    if evidence.is_rendered:
        opening, joint, seen = "Rendered from a file,", "", "view"
    else:
        opening = "Good capture (no fault found in its photos)"
        opening = f"Faulty capture ({', '.join(faults)})" if faults else opening
        joint, seen = (", but" if quality == "poor" and not faults else " and"), "photo"
    if not evidence.psnr:
        return f"{opening.rstrip(',')}; without held-out {seen}s its quality was not measured."
    views = len(evidence.held_out_degrees)
    on = f"{views} held-out {seen}{'' if views == 1 else 's'}"
    sentence = f"{opening}{joint} a {quality} scene: {list(evidence.psnr.values())[-1]:.1f} dB on {on}"
    steps = [finding.short for finding in found if finding.level == "advice"]
    if faults:
        return f"{sentence}; fix the photos first."
    return f"{sentence}; next: {steps[0]}." if steps and quality != "good" else f"{sentence}."


def _blur(evidence: Evidence) -> Finding | None:
    limit = THRESHOLDS["blurred_below"]
    names = _named(evidence, lambda photo: photo.relative_sharpness, lambda value: value < limit)
    if not names:
        return None
    return Finding(
        "blur", "fault", _count(names, "blurred photo"),
        f"{_count(names, 'photo')} of {len(evidence.photos)} {_are(names)} blurred: less than {limit:.0%} as sharp as "
        "photos that look alike.",
        "Leave them out or take them again: hold still, use more light, and move slowly.", names,
    )  # fmt: skip


def _poses(evidence: Evidence) -> Finding | None:
    names = tuple(
        name
        for name in _unlike_scene(evidence, THRESHOLDS["pose_residual_db"])
        if _fits_elsewhere(evidence.photos[name])
    )
    if not names:
        return None
    checked = len(_values(evidence, lambda photo: photo.residual_db))
    refined = evidence.settings.get("teacher.refine_cameras")
    return Finding(
        "pose",
        "fault",
        _count(names, "wrong pose"),
        f"The pose of {_count(names, 'photo')} of {checked} checked looks wrong: more than "
        f"{THRESHOLDS['pose_residual_db']:g} dB worse than the typical photo, and more like another camera's view.",
        "Take them out of the capture, or find the poses again (smerf prepare)."
        + ("" if refined else " Small errors are corrected with --set teacher.refine_cameras=true."),
        names,
    )


def _unlike_scene(evidence: Evidence, margin: float) -> list[str]:
    """Return the photos whose residual is worse than the typical one by more than ``margin`` dB."""
    values = _values(evidence, lambda photo: photo.residual_db)
    if len(values) < _ENOUGH_PHOTOS:
        return []
    limit = float(np.median(list(values.values()))) - margin
    return [name for name, value in values.items() if value < limit]


def _fits_elsewhere(photo: PhotoEvidence) -> bool:
    return (photo.other_match or 0.0) > (photo.match or 0.0) + THRESHOLDS["pose_match"]


def _unexplained(evidence: Evidence) -> Finding | None:
    margin = THRESHOLDS["unexplained_db"]
    names = tuple(
        name for name in _unlike_scene(evidence, margin) if not _fits_elsewhere(evidence.photos[name])
    )
    if not names:
        return None
    return Finding(
        "unexplained",
        "advice",
        f"look at {_count(names, 'photo')} that differ{'s' if len(names) == 1 else ''} from the scene",
        f"{_count(names, 'photo')} {_are(names)} more than {margin:g} dB worse than the typical one, though "
        f"{'their poses seem' if len(names) > 1 else 'its pose seems'} right: something is close to the camera or "
        "moved, or few photos look there.",
        "Mask what moved; take more photos of what is close.",
        names,
    )


def _exposure(evidence: Evidence) -> Finding | None:
    values = _values(evidence, lambda photo: photo.gain_stops)
    if len(values) < _ENOUGH_PHOTOS:
        return None
    typical, limit = float(np.median(list(values.values()))), THRESHOLDS["exposure_jump_stops"]
    steps = _values(evidence, lambda photo: photo.gain_jump_stops)
    jumps = {
        name: value - typical
        for name, value in values.items()
        if abs(steps.get(name, 0.0)) > limit or abs(value - typical) > THRESHOLDS["exposure_range_stops"]
    }
    if not jumps:
        return None
    settings = evidence.settings
    if settings.get("is_evened"):
        change = " Training evened the photos: compare colour-corrected figures."
    elif settings.get("has_exposure_tags") and settings.get("teacher.exposure") in ("off", "auto"):
        change = " The photos are tagged with their exposure: --set teacher.exposure=learned uses it."
    elif not settings.get("teacher.appearance"):
        change = " For these photos, --set teacher.appearance=32 learns how each differs."
    else:
        change = ""
    return Finding(
        "exposure", "fault", f"exposure jumps in {_count(jumps, 'photo')}",
        f"Exposure jumps in {_count(jumps, 'photo')} of {len(values)} checked: brighter or darker than those beside "
        f"them by more than {limit:g} stops ({min(jumps.values()):+.1f} to {max(jumps.values()):+.1f} against all).",
        f"Lock exposure and white balance when you photograph.{change}", tuple(jumps),
    )  # fmt: skip


def _isolated(evidence: Evidence) -> Finding | None:
    far, wide = THRESHOLDS["isolated_distance"], THRESHOLDS["isolated_degrees"]
    distant = _named(evidence, lambda photo: photo.neighbour_distance, lambda value: value > far)
    turned = _named(evidence, lambda photo: photo.neighbour_degrees, lambda value: value > wide)
    names = tuple(name for name in evidence.photos if name in distant or name in turned)
    if not names or len(evidence.photos) < _ENOUGH_PHOTOS:
        return None
    return Finding(
        "isolated", "advice", _count(names, "isolated photo"),
        f"{_count(names, 'photo')} {_are(names)} far from all others: more than {far:g} times the typical distance, or "
        f"{wide:g} degrees, from the nearest.",
        "Take more photos on the way there, or check the poses.", names,
    )  # fmt: skip


def _few_photos(evidence: Evidence) -> Finding | None:
    count = sum(photo.split == "train" for photo in evidence.photos.values())
    if count >= THRESHOLDS["few_photos"]:
        return None
    return Finding(
        "few_photos", "advice", "take more photos", f"The scene was trained on {count} photos only.",
        "Take 50 to 200: every part from at least three places, with two thirds of overlap.",
    )  # fmt: skip


def _start_view(evidence: Evidence) -> Finding | None:
    fraction = evidence.unsupported.get("start", 0.0)
    if fraction <= THRESHOLDS["unsupported_start"]:
        return None
    return Finding(
        "start_view", "advice", "photograph what the start view shows",
        f"{fraction:.0%} of the start view shows what fewer than two photos saw.",
        "Photograph what surrounds the start view, ceiling and floor included.",
    )  # fmt: skip


def _floaters(evidence: Evidence) -> Finding | None:
    limit = THRESHOLDS["floaters"]
    shown = {name: value for name, value in evidence.floaters.items() if value > limit}
    if not shown:
        return None
    worst = max(shown, key=lambda name: shown[name])
    return Finding(
        "floaters", "advice", "photograph to the sides of the path",
        f"Something floats before the camera in {len(shown)} of {len(evidence.floaters)} free views: up to "
        f"{shown[worst]:.0%} of the frame ({worst}), where fewer than two photos look.",
        "Photograph from there too; a larger teacher.opacity_weight removes haze.",
    )  # fmt: skip


def _generalisation(evidence: Evidence) -> Finding | None:
    seen, unseen = (
        [value for photo in evidence.photos.values() if photo.split == split and (value := photo.residual_db)]
        for split in ("train", "test")
    )
    if not seen or not unseen:
        return None
    gap = float(np.median(seen) - np.median(unseen))
    if gap <= THRESHOLDS["generalisation_gap_db"]:
        return None
    return Finding(
        "generalisation", "advice", "take more photos",
        f"Training photos are rendered {gap:.1f} dB better than held-out ones: the scene is known between too few "
        "photos.",
        "Take photos between those at hand; more training does not help.",
    )  # fmt: skip


def _losses(evidence: Evidence) -> Finding | None:
    largest = largest_loss(evidence.psnr)
    if largest is None:
        return None
    stage, loss = largest
    last = list(evidence.psnr.values())[-1]
    if stage == "training":
        # What only more photos can teach is no matter of time.
        if last >= THRESHOLDS["good_db"] or _generalisation(evidence) is not None:
            return None
        return Finding(
            "training", "advice", "train longer",
            f"Most of what is lost is lost in training: the teacher reaches {evidence.psnr['teacher']:.1f} dB.",
            "Train longer first: grant more time (--minutes), or --set teacher.steps=N.",
        )  # fmt: skip
    if loss < THRESHOLDS["stage_loss_db"] or (evidence.is_rendered and last >= THRESHOLDS["good_db"]):
        return None
    change = {
        "distilling": "Distil longer (smerf distill RUN --minutes M) or finer (--set student.plane_resolution=N).",
        "baking": "Bake with a larger size (--max-mb), or without a limit.",
    }[stage]
    return Finding(stage, "advice", f"improve {stage}", f"{stage.capitalize()} loses {loss:.1f} dB.", change)


def _detail(evidence: Evidence) -> Finding | None:
    if evidence.file_size is None or evidence.used_size is None:
        return None
    factor = max(evidence.file_size) / max(evidence.used_size)
    if factor < 2.0:
        return None
    stored, used = (f"{size[0]}x{size[1]}" for size in (evidence.file_size, evidence.used_size))
    return Finding(
        "detail", "advice", "use larger photos",
        f"Photos of {stored} are used at {used}: details below {math.floor(factor)} of their pixels are lost.",
        "More time (--minutes) is spent on larger photos as well; "
        f"--set max_side={min(max(evidence.file_size), 2 * max(evidence.used_size))} asks for them.",
    )  # fmt: skip


def _extrapolation(evidence: Evidence) -> Finding | None:
    far = tuple(name for name, degrees in evidence.held_out_degrees.items() if is_extrapolated(degrees))
    if not far:
        return None
    return Finding(
        "extrapolation", "advice", "read the figures by kind of view",
        f"{len(far)} of {len(evidence.held_out_degrees)} held-out views look more than {EXTRAPOLATION_DEGREES:g} "
        "degrees away from every training photo.",
        "Their figures are of extrapolation; the others are of views between photos.",
        far,
    )  # fmt: skip


def _values(evidence: Evidence, measure: Any) -> dict[str, float]:
    measured = {name: measure(photo) for name, photo in evidence.photos.items()}
    return {name: value for name, value in measured.items() if value is not None}


def _named(evidence: Evidence, measure: Any, stands_out: Any) -> tuple[str, ...]:
    return tuple(name for name, value in _values(evidence, measure).items() if stands_out(value))


def _count(names: Any, noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) != 1 else ''}"


def _are(names: Sequence[str]) -> str:
    return "are" if len(names) != 1 else "is"
