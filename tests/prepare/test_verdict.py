"""Every failure says what is wrong and what to photograph next."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from smerf.prepare.colmap import Pair
from smerf.prepare.diagnosis import gather_evidence
from smerf.prepare.intake import Photo
from smerf.prepare.mapping import Outcome, judge, longest_part, places_of
from smerf.prepare.verdict import decide
from tests.helpers.corner import ring_model


def photos_of(names, is_video=False, brightness=None):
    return [
        Photo(name, name, 0, index, index, (640, 480), (brightness or {}).get(name, 0.2), is_video=is_video)
        for index, name in enumerate(names)
    ]


def pairs_of(names, inliers=200, config=3, parallax=None):
    return [Pair(a, b, inliers, config, parallax) for a, b in itertools.pairwise(names)]


def outcome_of(photos, models=(), pairs=None, keypoints=1500, mapper="incremental"):
    names = [photo.name for photo in photos]
    evidence = gather_evidence(
        photos, dict.fromkeys(names, keypoints), pairs_of(names) if pairs is None else pairs
    )
    candidates = judge([(Path(), model) for model in models], photos, mapper, "first", 30)
    chosen = next((candidate for candidate in candidates if not candidate.rejected), None)
    return Outcome(photos, evidence, candidates, chosen)


def kinds(verdict):
    return [finding.kind for finding in verdict.findings]


def test_a_right_model_of_all_photos_is_good():
    model = ring_model()
    verdict = decide(outcome_of(photos_of(model.names), [model]))
    assert (verdict.state, verdict.registered, verdict.total, verdict.findings) == ("good", 48, 48, ())


def test_missing_photos_and_a_second_piece_are_said_with_the_gap():
    model = ring_model()
    verdict = decide(outcome_of(photos_of(model.names), [model.keep(range(32)), model.keep(range(32, 48))]))
    assert verdict.state == "usable" and kinds(verdict)[:2] == ["registered", "pieces"]
    assert "pieces of 32 and 16" in verdict.findings[1].cause
    assert "between 031.jpg and 032.jpg" in verdict.findings[1].advice


def test_less_than_half_fails():
    model = ring_model()
    verdict = decide(outcome_of(photos_of(model.names), [model.keep(range(20))]))
    assert verdict.state == "failed" and verdict.registered == 20


def test_a_folded_model_keeps_the_half_that_fits_and_says_so():
    model = ring_model(count=60, fold=True)
    third = [index for index in range(60) if index < 30 or 34 <= index < 54]
    verdict = decide(outcome_of(photos_of(model.names), [model.keep(third)]))
    assert "folded" not in verdict.summary
    assert verdict.registered == 30
    whole = replace(outcome_of(photos_of(model.names), [model.keep(third)]), chosen=None)
    assert decide(whole).state == "failed"


def test_a_fold_that_hangs_together_is_rejected_with_its_reason():
    model = ring_model(fold=True)
    outcome = outcome_of(photos_of(model.names), [model])
    candidates = judge([(Path(), model)], outcome.photos, "global", "first", 0)
    assert candidates[0].rejected == "folded"
    verdict = decide(replace(outcome, candidates=candidates, chosen=None))
    assert verdict.state == "failed" and "folded" in kinds(verdict)
    text = next(finding.text for finding in verdict.findings if finding.kind == "folded")
    assert "look alike" in text and "in small steps" in text


def test_what_only_the_other_mapper_folded_is_no_fault_of_the_photos():
    right, folded = ring_model(), ring_model(fold=True)
    outcome = outcome_of(photos_of(right.names), [right])
    candidates = judge([(Path(), folded)], outcome.photos, "global", "first", 0) + outcome.candidates
    assert [candidate.rejected for candidate in candidates] == ["folded", ""]
    verdict = decide(replace(outcome, candidates=candidates, chosen=candidates[1]))
    assert (verdict.state, kinds(verdict)) == ("good", [])


def test_rotation_without_parallax_fails_even_with_a_model_and_a_plane_does_not():
    model = ring_model()
    photos = photos_of(model.names)
    turning = outcome_of(photos, [model], pairs_of(model.names, config=6, parallax=1e-4))
    verdict = decide(replace(turning, chosen=None))
    assert verdict.state == "failed" and kinds(verdict)[0] == "rotation"
    assert "did not move" in verdict.findings[0].cause and "sideways" in verdict.findings[0].advice
    flat = outcome_of(photos, [model], pairs_of(model.names, config=6, parallax=0.1))
    assert decide(flat).state == "good"


@pytest.mark.parametrize(
    ("count", "inliers", "keypoints", "kind", "words"),
    [
        (30, 200, 90, "blur", "90 details per photo"),
        (30, 3, 1500, "overlap", "0 of 30 match"),
        (5, 3, 1500, "count", "only 5 photos"),
        (30, 200, 1500, "unknown", "no consistent set"),
    ],
)
def test_failures_name_their_cause_and_the_next_step(count, inliers, keypoints, kind, words):
    photos = photos_of([f"{index:03d}.jpg" for index in range(count)])
    pairs = pairs_of([photo.name for photo in photos], inliers)
    verdict = decide(outcome_of(photos, (), pairs, keypoints))
    assert verdict.state == "failed" and kind in kinds(verdict)
    assert words in " ".join(finding.text for finding in verdict.findings)
    assert all(finding.advice for finding in verdict.findings)


def test_thumbnails_and_clips_of_a_moment_are_told_from_blur_and_too_few_photos():
    names = [f"{index:03d}.jpg" for index in range(30)]
    small = [replace(photo, size=(160, 120)) for photo in photos_of(names)]
    (finding, *_) = decide(outcome_of(small, (), pairs_of(names, 3), 90)).findings
    assert finding.kind == "size" and "160x120" in finding.cause and "originals" in finding.advice
    clip = [replace(photo, is_video=True) for photo in photos_of(names[:3])]
    (finding, *_) = decide(outcome_of(clip, (), pairs_of(names[:3], 3), 900)).findings
    assert "video gives only 3" in finding.cause and "Film half a minute" in finding.advice


def test_a_jump_on_which_the_mappers_disagree_is_a_fold_that_nothing_contradicts():
    model = ring_model()
    folded = model.poses.copy()
    folded[24:, :, 3] = folded[:24, :, 3] + 0.05  # the second half of the round lies over the first one
    outcome = outcome_of(photos_of(model.names), [replace(model, poses=folded)])
    outcome.chosen = replace(
        outcome.chosen, checks=replace(outcome.chosen.checks, step=12.0, contradiction=0.0)
    )
    assert decide(replace(outcome, agreement=(0.9, 1.0, 0.01))).state == "good"
    verdict = decide(replace(outcome, agreement=(0.0, 1.0, 0.6)))
    assert verdict.state == "failed" and kinds(verdict)[0] == "folded"
    assert "look alike" in verdict.findings[0].cause and "0 % of the photos" in verdict.findings[0].numbers


def test_few_photos_that_hang_on_few_points_are_told_to_overlap_more():
    model = ring_model(count=7, points=200)
    verdict = decide(outcome_of(photos_of(model.names), [model]))
    assert verdict.state == "failed" and kinds(verdict) == ["count", "overlap"]
    assert "share too little" in verdict.findings[1].cause
    rich = ring_model(count=7, points=2000)
    assert kinds(decide(outcome_of(photos_of(rich.names), [rich]))) == ["count"]


def test_a_torn_video_is_cut_and_the_longest_part_kept():
    model = ring_model()
    poses = model.poses.copy()
    poses[30:, :, 3] += 60.0
    torn = replace(model, poses=poses)
    photos = photos_of(model.names, is_video=True)
    assert longest_part(torn, places_of(photos)).names == model.names[:30]
    verdict = decide(outcome_of(photos, [torn]))
    assert verdict.registered == 30 and "torn" in kinds(verdict)
    text = next(finding.text for finding in verdict.findings if finding.kind == "torn")
    assert "between 029.jpg and 030.jpg" in text and "longest consistent part" in text


def test_a_jump_of_brightness_is_said():
    model = ring_model()
    dark = dict.fromkeys(model.names[20:], 0.04)
    verdict = decide(outcome_of(photos_of(model.names, brightness=dark), [model]))
    assert verdict.state == "good" and kinds(verdict) == ["exposure"]
    assert "between 019.jpg and 020.jpg" in verdict.findings[0].cause
