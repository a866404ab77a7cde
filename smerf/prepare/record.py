"""``prepare.json``: every decision of a preparation with its number."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import smerf
from smerf.engine.files import read_json
from smerf.engine.settings import to_dict
from smerf.prepare.config import PrepareConfig
from smerf.prepare.gather import Gathered
from smerf.prepare.mapping import Candidate, Outcome
from smerf.prepare.model import Model
from smerf.prepare.verdict import Finding, Verdict
from smerf.prepare.write import Placement

__all__ = ["Result", "describe", "read_verdict"]

_PACKAGES = ("pycolmap", "numpy", "pillow", "imageio-ffmpeg")


@dataclass(frozen=True)
class Result:
    """Everything that came of a preparation; ``seconds`` is the wall time of this call and
    ``cpu_seconds`` the processor time, that of COLMAP's jobs included.
    """

    gathered: Gathered
    outcome: Outcome
    verdict: Verdict
    model: Model | None
    placement: Placement | None
    config: PrepareConfig
    seconds: float
    cpu_seconds: float


def describe(result: Result) -> dict[str, Any]:
    """Return every decision with its number, as JSON values."""
    outcome, chosen = result.outcome, result.outcome.chosen
    facts: dict[str, Any] = {
        "format": 1,
        "generator": f"smerf {smerf.__version__}",
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "config": to_dict(result.config),
        "verdict": asdict(result.verdict),
        "inputs": result.gathered.notes,
        "evidence": asdict(outcome.evidence),
        "candidates": [_candidate(candidate) for candidate in outcome.candidates],
        "chosen": chosen and [chosen.mapper, chosen.attempt],
        "agreement": outcome.agreement,
        "seconds": round(result.seconds, 1),
        "cpu_seconds": round(result.cpu_seconds, 1),
        "frames": _frames(result),
    }
    if result.model is not None and result.placement is not None:
        facts["model"] = _model(result.model, result.placement)
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=float))
    return plain


def read_verdict(path: Path) -> Verdict:
    """Read the verdict back from ``prepare.json``."""
    stored = dict(read_json(path)["verdict"])
    findings = tuple(Finding(**finding) for finding in stored.pop("findings"))
    return Verdict(**stored, findings=findings)


def _frames(result: Result) -> list[dict[str, Any]]:
    registered = set(result.model.names) if result.model is not None else set()
    weak = set(result.outcome.chosen.cleaned.weak) if result.outcome.chosen else set()
    known = {photo.name for photo in result.gathered.photos}
    added = [photo for photo in result.outcome.photos if photo.name not in known]
    frames = []
    for photo in [*result.gathered.photos, *added]:
        lost = "too few points" if photo.name in weak else "not posed"
        reason = photo.dropped or (None if photo.name in registered else lost)
        frames.append(asdict(photo) | {"posed": photo.name in registered, "dropped": reason})
    return frames


def _model(model: Model, placement: Placement) -> dict[str, Any]:
    return {
        "registered": len(model.names),
        "points": len(model.points),
        "error": model.mean_error,
        "intrinsics": [asdict(lens) for lens in model.intrinsics.values()],
        "written_from_model": {"rotation": placement.rotation.tolist(), "scale": placement.scale},
        "up_source": placement.up_source,
        "metric": placement.is_metric,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    checks = candidate.checks
    return {
        "mapper": candidate.mapper,
        "attempt": candidate.attempt,
        "registered_before_cleaning": candidate.raw,
        "registered": len(candidate.model.names),
        "total": candidate.total,
        "points": len(candidate.model.points),
        "too_few_points": list(candidate.cleaned.weak),
        "cut_off": [list(part) for part in candidate.cleaned.parts],
        "other_models": [len(names) for names in candidate.others],
        "contradiction": checks.contradiction,
        "step": checks.step,
        "step_between": checks.step_between,
        "median_angle": checks.angle,
        "error": checks.error,
        "fov": list(checks.fov),
        "rejected": candidate.rejected or None,
        "cut_at_jump": None if candidate.jump is None else candidate.jump.step_between,
    }
