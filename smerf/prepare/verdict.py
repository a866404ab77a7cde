"""What to tell people: whether the capture works, what is wrong with it, and what to photograph next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from smerf.prepare.checks import MAX_ERROR, MIN_AGREEMENT, MIN_ANGLE
from smerf.prepare.cleaning import MIN_POINTS
from smerf.prepare.features import sequences_of
from smerf.prepare.mapping import Candidate, Outcome

__all__ = ["Finding", "Verdict", "decide"]

MIN_PHOTOS, GOOD_FRACTION, MIN_FRACTION = 8, 0.9, 0.5
MIN_KEYPOINTS, MIN_PAIRS_OK = 200, 0.5
_MIN_POINTS_PER_PHOTO = 20  # a clip blurred beyond use had 3, at 80 details per photo
_MIN_DEPTH_ANGLE = 1.0  # degrees
_PIECE = 0.1
_FOLDED_PART = 5
_MIN_SETTLED = 0.5
_FEW = 20
_MIN_SIDE = 240  # pixels
_MIN_COMMON = 150  # every 8th photo of a phone's arc: 93; all of them: 600


@dataclass(frozen=True)
class Finding:
    """One thing that was found: the cause, its numbers, and what to do, each a sentence for people."""

    kind: str
    cause: str
    numbers: str
    advice: str

    @property
    def text(self) -> str:
        """All of it in one line."""
        return " ".join(part for part in (self.cause, self.numbers, self.advice) if part)


@dataclass(frozen=True)
class Verdict:
    """``state`` is ``good``, ``usable`` or ``failed``; findings are in order of weight."""

    state: str
    registered: int
    total: int
    findings: tuple[Finding, ...]

    @property
    def summary(self) -> str:
        """One line: how many photos were posed."""
        return f"{self.registered} of {self.total} photos posed"


def decide(outcome: Outcome) -> Verdict:
    """Turn what was measured into a verdict."""
    total = len(outcome.photos)
    chosen = outcome.chosen
    count = len(chosen.model.names) if chosen else 0
    is_too_small = count < MIN_PHOTOS or count < MIN_FRACTION * total
    is_wrong = _is_rotation(outcome) or _is_blurred(outcome) or _is_unsettled(outcome)
    if chosen is None or is_too_small or is_wrong:
        return Verdict("failed", count, total, _why_failed(outcome))
    warnings = _warnings(outcome, chosen)
    state = "good" if count >= GOOD_FRACTION * total else "usable"
    return Verdict(state, count, total, warnings)


def _is_rotation(outcome: Outcome) -> bool:
    """Return whether the camera rotated in place; a hand that wavers leaves a model with next to no depth."""
    evidence, chosen = outcome.evidence, outcome.chosen
    has_depth = chosen is not None and chosen.checks.angle >= _MIN_DEPTH_ANGLE
    return evidence.is_rotation or (evidence.is_flat and not has_depth)


def _is_unsettled(outcome: Outcome) -> bool:
    """Return whether the path jumps and the other mapper disagrees on most photos: sides that look exactly alike.

    Then every photo sees what it should, and nothing contradicts; right models agree on nearly all photos, and those
    with a part folded on three quarters.
    """
    chosen, agreement = outcome.chosen, outcome.agreement
    is_torn = chosen is not None and chosen.checks.is_torn and outcome.evidence.is_sequence
    return is_torn and agreement is not None and agreement[0] < _MIN_SETTLED


def _is_blurred(outcome: Outcome) -> bool:
    """Return whether the photos hold so few details that poses, if there are any, rest on next to nothing."""
    points = len(outcome.chosen.model.points) if outcome.chosen else 0
    few = points < _MIN_POINTS_PER_PHOTO * len(outcome.photos)
    return outcome.evidence.keypoints < MIN_KEYPOINTS and few


def _why_failed(outcome: Outcome) -> tuple[Finding, ...]:
    evidence, total = outcome.evidence, len(outcome.photos)
    findings = []
    if total < MIN_PHOTOS:
        findings.append(_too_few(outcome))
    sides = sorted(max(photo.size) for photo in outcome.photos)
    if _is_blurred(outcome) and sides[len(sides) // 2] < _MIN_SIDE:
        findings.append(_too_small(outcome))
    elif _is_blurred(outcome):
        findings.append(
            Finding(
                "blur",
                f"Found only {evidence.keypoints:.0f} details per photo (a good photo has 1,000 or more).",
                f"The limit is {MIN_KEYPOINTS}.",
                "Plain walls or motion blur: use more light, hold still, keep textured things in view.",
            )
        )
    if _is_rotation(outcome):
        findings.append(
            Finding(
                "rotation",
                "The camera turned but did not move.",
                f"{evidence.matching} of {evidence.tested} pairs match, {100 * evidence.flat:.0f} % of them as if "
                "everything were far away.",
                "Depth needs sideways steps: walk an arc or sidestep 20 to 50 cm between views, "
                "and don't pan in place.",
            )
        )
    elif not _is_blurred(outcome) and (numbers := _little_overlap(outcome)) is not None:
        # Photos without details match nothing, however many there are.
        findings.append(
            Finding(
                "overlap",
                f"Neighbouring photos share too little ({numbers}).",
                "",
                "Take three times as many, each showing two thirds of the one before.",
            )
        )
    rejected = next((c for c in outcome.candidates if c.rejected == "folded"), None)
    if outcome.chosen is not None and outcome.agreement is not None and _is_unsettled(outcome):
        first, second = outcome.chosen.checks.step_between or ("", "")
        numbers = (
            f"The path jumps between {first} and {second}, and two methods agree on "
            f"{100 * outcome.agreement[0]:.0f} % of the photos."
        )
        findings.append(replace(_folded(outcome.chosen, None), numbers=numbers))
    elif rejected is not None:
        findings.append(_folded(rejected, None))
    torn = next((c for c in outcome.candidates if c.rejected == "torn"), None)
    if torn is not None:
        findings.append(_torn(torn))
    largest = outcome.chosen or max(outcome.candidates, key=lambda c: len(c.model.names), default=None)
    if largest is not None:
        findings += _pieces(outcome, largest)
    if not findings:
        findings.append(
            Finding(
                "unknown",
                "The photos match, but no consistent set of camera positions explains them.",
                f"{evidence.verified} pairs match, {evidence.keypoints:.0f} details per photo.",
                "Take more photos in small sideways steps around the subject, with fixed zoom and still surroundings.",
            )
        )
    return tuple(findings)


def _little_overlap(outcome: Outcome) -> str | None:
    """Return the numbers of an overlap that is too small: pairs that match, or common points of few photos."""
    evidence = outcome.evidence
    if evidence.pairs_ok < MIN_PAIRS_OK:
        return f"{evidence.matching} of {evidence.tested} match"
    best = max(outcome.candidates, key=lambda c: len(c.model.names), default=None)
    if best is None or len(outcome.photos) >= MIN_PHOTOS or not best.model.names:
        return None
    points = len(best.model.seen_point) / len(best.model.names)
    return f"{points:.0f} common points a photo, 300 or more are good" if points < _MIN_COMMON else None


def _too_small(outcome: Outcome) -> Finding:
    width, height = outcome.photos[0].size
    return Finding(
        "size",
        f"The photos are too small ({width}x{height} pixels), and hold only {outcome.evidence.keypoints:.0f} details "
        "each.",
        f"At least {_MIN_SIDE} pixels are needed, 1,000 or more work well.",
        "Give the originals, not thumbnails or previews.",
    )


def _too_few(outcome: Outcome) -> Finding:
    total = len(outcome.photos)
    if all(photo.is_video for photo in outcome.photos):
        return Finding(
            "count",
            f"The video gives only {total} different views.",
            f"At least {MIN_PHOTOS} are needed; 60 to 300 work well.",
            "Film half a minute or longer while you walk around the subject.",
        )
    return Finding(
        "count",
        f"There are only {total} photos.",
        f"At least {MIN_PHOTOS} are needed; 30 to 100 work well.",
        "Walk around the subject and take one photo every step, each showing two thirds of the one before.",
    )


def _warnings(outcome: Outcome, chosen: Candidate) -> tuple[Finding, ...]:
    checks, evidence, total = chosen.checks, outcome.evidence, len(outcome.photos)
    findings: list[Finding] = []
    if chosen.fraction < GOOD_FRACTION:
        missing = total - len(chosen.model.names)
        findings.append(
            Finding(
                "registered",
                f"{missing} of {total} photos could not be posed and are left out.",
                f"{100 * chosen.fraction:.0f} % are posed; 90 % or more is good.",
                "The contact sheet shows which; add photos between them and their neighbours.",
            )
        )
    findings += _pieces(outcome, chosen)
    folded = _folded_part(outcome, chosen)
    if folded is not None:
        findings.append(_folded(*folded))
    if chosen.jump is not None or (checks.is_torn and evidence.is_sequence):
        findings.append(_torn(chosen))
    if outcome.agreement is not None and outcome.agreement[0] < MIN_AGREEMENT:
        findings.append(
            Finding(
                "disagreement",
                "Two methods place the cameras differently.",
                f"{100 * outcome.agreement[0]:.0f} % of the common photos agree within 2 degrees and 5 %.",
                "Look at the map of the cameras; more photos with more overlap settle it.",
            )
        )
    if checks.angle < MIN_ANGLE:
        findings.append(
            Finding(
                "angle",
                "The camera hardly moved sideways, so depth is uncertain.",
                f"The median angle between views of a point is {checks.angle:.1f} degrees; "
                f"{MIN_ANGLE:.0f} or more is good.",
                "Step further to the side between photos.",
            )
        )
    if checks.error > MAX_ERROR:
        findings.append(
            Finding(
                "error",
                "The photos fit together badly: things moved, or the video is stabilised or has a rolling shutter.",
                f"The mean reprojection error is {checks.error:.2f} pixels; below 1 is good.",
                "Give masks of what moves with --masks (black = ignore), and switch stabilisation off.",
            )
        )
    if evidence.exposure_jumps:
        first, second = evidence.exposure_jumps[0]
        findings.append(
            Finding(
                "exposure",
                f"The brightness jumps between {first} and {second}.",
                f"{len(evidence.exposure_jumps)} such jumps of more than one stop.",
                "Lock the exposure of the camera.",
            )
        )
    if total < _FEW:
        findings.append(
            Finding(
                "few",
                f"There are only {total} photos.",
                "30 to 100 work well.",
                "Take more for a better scene.",
            )
        )
    return tuple(findings)


def _pieces(outcome: Outcome, kept: Candidate) -> list[Finding]:
    """Say which other pieces of at least 10 % of the photos there are, and where the gap is."""
    names = set(kept.model.names)
    limit = max(_PIECE * len(outcome.photos), 3)
    parts = [[name for name in part if name not in names] for part in (*kept.others, *kept.cleaned.parts)]
    parts = sorted((part for part in parts if len(part) >= limit), key=len, reverse=True)
    if not parts:
        return []
    sizes = [len(names), *map(len, parts)]
    order = [name for sequence in sequences_of(outcome.photos) for name in sequence]
    kept_order = [name for name in order if name in names]
    gap = _gap(order, names, {name for part in parts for name in part})
    where = (
        f"The gap is between {gap[0]} and {gap[1]}: add photos there" if gap else "Add photos between them"
    )
    return [
        Finding(
            "pieces",
            f"The photos fall into pieces of {_listing(sizes)}.",
            f"Kept {len(names)} ({kept_order[0]} to {kept_order[-1]}).",
            f"{where} that show both sides.",
        )
    ]


def _gap(order: Sequence[str], kept: set[str], other: set[str]) -> tuple[str, str] | None:
    """Return the first two photos of the order that are in different pieces with none of either between."""
    last = None
    for name in order:
        side = name in kept if name in kept or name in other else None
        if side is None:
            continue
        if last is not None and last[1] != side:
            return last[0], name
        last = (name, side)
    return None


def _listing(sizes: Sequence[int]) -> str:
    words = [str(size) for size in sizes]
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _folded_part(outcome: Outcome, chosen: Candidate) -> tuple[Candidate, int | None] | None:
    """Return a candidate that was folded: by contradiction, or by a cut part whose photos lie inside the sequence.

    What another mapper folded is no fault of photos that the chosen one posed.
    """
    for candidate in outcome.candidates:
        if candidate.rejected == "folded" and chosen.fraction < GOOD_FRACTION:
            return candidate, None
    if not outcome.evidence.is_sequence:
        return None
    kept = set(chosen.model.names)
    number = {photo.name: (photo.sequence, photo.number) for photo in outcome.photos}
    inside = [number[name] for name in kept]
    for part in chosen.cleaned.parts:
        if len(part) >= _FOLDED_PART and all(min(inside) < number[name] < max(inside) for name in part):
            return chosen, len(part)
    return None


def _folded(candidate: Candidate, part: int | None) -> Finding:
    if part is None:
        numbers = f"{100 * (candidate.checks.contradiction or 0):.0f} % of the photos see things that cannot be there."
    else:
        numbers = f"{part} photos hang on the rest by fewer than {MIN_POINTS} points."
    return Finding(
        "folded",
        "Two sides that look alike were laid on top of each other.",
        f"{numbers} Kept the {len(candidate.model.names)} photos that fit." if part else numbers,
        "Photograph the way from one side to the other in small steps, in order.",
    )


def _torn(candidate: Candidate) -> Finding:
    checks = candidate.jump or candidate.checks
    first, second = checks.step_between or ("", "")
    kept = " Kept the longest consistent part." if candidate.jump else ""
    return Finding(
        "torn",
        f"The path jumps between {first} and {second} ({checks.step:.0f} times a normal step).",
        kept.strip(),
        "Film slower there, or take more photos.",
    )
