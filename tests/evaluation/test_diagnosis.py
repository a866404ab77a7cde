"""What the diagnosis makes of evidence, and the measures of photos and coverage that it rests on."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from smerf.capture.types import Camera, Intrinsics
from smerf.evaluation import photos
from smerf.evaluation.coverage import count_supporting, free_views, nearest_views, reduce_camera
from smerf.evaluation.diagnosis import diagnose
from smerf.evaluation.evidence import Evidence, PhotoEvidence
from smerf.evaluation.gains import pair_gain, solve_gains
from smerf.evaluation.loss import largest_loss, stage_fractions

PINHOLE = Intrinsics("PINHOLE", 64, 48, 60.0, 60.0, 32.0, 24.0)
GOOD = PhotoEvidence("train", 1.0, 0.0, 30.0, 0.95, 0.7, 1.0, 10.0)


def camera(degrees=0.0, centre=(0.0, 0.0, 0.0)):
    """Return a camera that looks along -z, rotated about y."""
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return Camera(PINHOLE, np.column_stack([rotation, centre]))


def evidence(count=30, psnr=28.0, **changed):
    """Return a good capture's evidence; ``changed`` replaces photos, by ``photo_7=...``."""
    own = {f"photo_{i}": changed.get(f"photo_{i}", GOOD) for i in range(count)}
    figures = {"teacher": psnr + 0.5, "student": psnr + 0.1, "baked": psnr}
    return Evidence(own, figures, {"held": 5.0})


def kinds(found, level=None):
    return [finding.kind for finding in found.findings if level in (None, finding.level)]


def test_a_good_capture_is_called_good_in_one_sentence():
    found = diagnose(evidence())
    assert (found.capture, found.quality, kinds(found)) == ("good", "good", [])
    assert found.verdict.startswith("Good capture") and "28.0 dB on 1 held-out photo" in found.verdict
    assert found.verdict.count(".") == 2  # one sentence, one decimal point


def test_each_fault_of_the_photos_is_named_with_its_photos():
    found = diagnose(
        evidence(
            photo_1=replace(GOOD, relative_sharpness=0.1),
            photo_4=replace(GOOD, relative_sharpness=0.3),
            photo_9=replace(GOOD, residual_db=24.0, match=0.6, other_match=0.9),
            photo_12=replace(GOOD, gain_stops=0.5, gain_jump_stops=0.5),
            photo_13=replace(GOOD, gain_stops=0.8, gain_jump_stops=0.0),
        )
    )
    assert {f.kind: f.photos for f in found.findings if f.level == "fault"} == {
        "blur": ("photo_1", "photo_4"),
        "pose": ("photo_9",),
        "exposure": ("photo_12", "photo_13"),
    }
    assert found.capture == "faulty"
    for words in ("2 blurred photos", "1 wrong pose", "exposure jumps in 2 photos"):
        assert words in found.verdict
    assert all(f.advice for f in found.findings)


def test_renders_of_a_file_have_no_faults_and_nobody_is_asked_for_other_photos():
    blurred = evidence(
        count=7, photo_1=replace(GOOD, relative_sharpness=0.1), photo_2=replace(GOOD, gain_stops=0.8)
    )
    rendered = replace(blurred, is_rendered=True, psnr={"teacher": 79.0, "student": 34.6, "baked": 34.5})
    found = diagnose(rendered)
    assert (found.capture, found.quality, kinds(found)) == ("good", "good", [])
    assert found.verdict == "Rendered from a file, a good scene: 34.5 dB on 1 held-out view."
    poor = diagnose(replace(rendered, psnr={"teacher": 79.0, "student": 20.0, "baked": 19.9}))
    assert kinds(poor) == ["distilling"] and "photo" not in poor.verdict + poor.findings[0].advice


def test_an_exposure_that_changes_slowly_does_not_jump():
    drift = {f"photo_{i}": replace(GOOD, gain_stops=0.04 * (i - 15), gain_jump_stops=0.02) for i in range(30)}
    assert kinds(diagnose(evidence(**drift))) == []


def test_a_photo_that_no_camera_explains_is_no_wrong_pose():
    found = diagnose(evidence(photo_2=replace(GOOD, residual_db=20.0, match=0.5, other_match=0.5)))
    assert kinds(found, "fault") == [] and kinds(found) == ["unexplained"]


def test_the_advice_follows_where_the_loss_arose():
    assert kinds(diagnose(evidence(psnr=20.0))) == ["training"]
    distilled = replace(evidence(), psnr={"teacher": 30.0, "student": 25.0, "baked": 25.0})
    assert kinds(diagnose(distilled)) == ["distilling"]
    assert largest_loss({"student": 20.0}) is None
    fractions = stage_fractions({"teacher": 30.0, "student": 27.0, "baked": 27.5})
    assert fractions["baking"] == 0.0 and sum(fractions.values()) == pytest.approx(1.0)
    assert fractions["training"] == pytest.approx(10 ** (-3.0) / 10 ** (-2.7))


def test_whoever_lacks_photos_is_not_told_to_train_longer():
    held_out = {f"photo_{i}": replace(GOOD, split="test", residual_db=18.0) for i in range(3)}
    assert "training" in kinds(diagnose(evidence(psnr=18.0)))
    found = kinds(diagnose(evidence(psnr=18.0, **held_out)))
    assert "generalisation" in found and "training" not in found


def test_sizes_coverage_and_few_photos_give_advice():
    lacking = replace(
        evidence(count=12), file_size=(4000, 3000), used_size=(640, 480),
        unsupported={"start": 0.3}, floaters={"up": 0.1, "left": 0.0},
    )  # fmt: skip
    assert set(kinds(diagnose(lacking))) == {"detail", "start_view", "floaters", "few_photos"}
    assert set(kinds(diagnose(replace(evidence(), held_out_degrees={"far": 40.0})))) == {"extrapolation"}


def texture(seed=0):
    noise = np.random.default_rng(seed).uniform(0, 255, (60, 80, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC)


def test_blur_shows_and_exposure_does_not():
    sharp = np.asarray(texture(), np.float32) / 255.0
    blurred = np.asarray(texture().filter(ImageFilter.GaussianBlur(4)), np.float32) / 255.0
    assert photos.sharpness(blurred) < 0.35 * photos.sharpness(sharp)
    assert photos.sharpness(0.5 * sharp) == pytest.approx(photos.sharpness(sharp), rel=1e-4)
    assert photos.thumbnail(0.5 * sharp) == pytest.approx(photos.thumbnail(sharp), abs=1e-4)
    assert photos.sharpness(np.full((8, 8, 3), 0.3)) == 0.0


def test_a_gain_costs_no_residual_and_a_shift_does():
    image = 0.2 + 0.4 * np.asarray(texture(), np.float64) / 255.0
    darker = ((image + 0.055) / 1.055) ** 2.4 * 0.7
    darker = 1.055 * darker ** (1 / 2.4) - 0.055
    assert photos.residual_psnr(image, darker) > 50.0
    assert photos.residual_psnr(image, np.roll(image, 12, axis=1)) < 25.0


def test_gains_are_found_from_pairs_in_spite_of_a_few_wrong_ones():
    true = np.array([0.0, 0.7, 0.0, -0.6, 0.0, 0.0])
    sources = np.array([0, 1, 3, 4])
    ratios = true[sources][:, None] - true[None]
    ratios[np.arange(4), sources] = np.nan
    ratios[0, 5] = 3.0
    assert solve_gains(ratios, sources) == pytest.approx(true, abs=1e-3)
    ratios[:, 2] = np.nan
    assert np.isnan(solve_gains(ratios, sources)[2])


def test_a_pair_sees_the_same_surface():
    x, y = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-0.8, 0.8, 30))
    points = np.stack([x, y, np.full_like(x, -3.0)], -1).reshape(-1, 3)
    grey = np.full((48, 64, 3), 0.5)
    linear = ((0.5 + 0.055) / 1.055) ** 2.4 * 2.0
    bright = np.full((len(points), 3), 1.055 * linear ** (1 / 2.4) - 0.055)
    assert pair_gain(points, bright, camera(), grey) == pytest.approx(1.0, abs=1e-6)
    assert pair_gain(points, bright, camera(180.0), grey) is None


def test_views_are_measured_against_the_nearest_photo():
    degrees, distance = nearest_views([camera(25.0, (1, 0, 0))], [camera(0.0), camera(20.0, (3, 0, 0))])
    assert degrees == pytest.approx([5.0]) and distance == pytest.approx([1.0])


def test_support_counts_photos_whose_frame_holds_the_point():
    points = np.array([[0.0, 0.0, -2.0], [0.0, 0.0, 2.0], [50.0, 0.0, -2.0]])
    assert count_supporting(points, [camera(), camera(5.0), camera(180.0)]).tolist() == [2, 1, 0]


def test_free_views_keep_their_field_of_view_and_look_elsewhere():
    start = camera(30.0, (0.2, 0.1, 0.0))
    small = reduce_camera(start, 32).intrinsics
    assert (small.width, small.height, small.fx) == (32, 24, pytest.approx(30.0))
    views = free_views(start.world_from_cam, 0.5, small)
    assert len(views) == 8
    degrees, distance = nearest_views(list(views.values()), [start])
    assert sorted(degrees.round(3)) == [0, 0, 0, 45, 45, 90, 90, 180]
    assert sorted(distance.round(6)) == [0, 0, 0, 0, 0, 0.5, 0.5, 0.5]
