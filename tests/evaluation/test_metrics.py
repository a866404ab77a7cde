import numpy as np
import pytest

from smerf.evaluation.metrics import (
    cc_psnr,
    colour_correct,
    flip,
    flip_map,
    image_metrics,
    masked_psnr,
    psnr,
    quantise,
    ssim,
)


def photo(seed=0, height=24, width=32):
    """Smooth colours with some texture, away from black and white."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 5), np.cos(y / 4), np.sin((x + y) / 7)], axis=-1)
    return quantise(0.5 + 0.2 * waves + 0.1 * generator.uniform(-1, 1, (height, width, 3)))


def test_quantise_rounds_to_nearest_and_clips():
    values = np.array([-0.2, 0.0, 0.49 / 255, 0.51 / 255, 0.5, 1.0, 3.0])
    assert (quantise(values) * 255).round(6).tolist() == [0, 0, 0, 1, 128, 255, 255]
    assert np.array_equal(quantise(np.array([0, 128, 255], np.uint8)), np.array([0, 128 / 255, 1]))
    with pytest.raises(ValueError, match="NaN"):
        quantise(np.array([0.0, np.nan]))


def test_psnr_by_hand():
    truth = np.zeros((4, 4, 3))
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0)
    pred = truth.copy()
    pred[0, 0] = 1.0  # one pixel of sixteen
    assert psnr(pred, truth) == pytest.approx(10 * np.log10(16))
    assert psnr(truth, truth) == np.inf


def test_masked_psnr_counts_used_pixels_alone():
    truth = np.zeros((4, 4, 3))
    pred = truth.copy()
    pred[:, :2] = 0.1
    pred[:, 2:] = 0.9
    mask = np.zeros((4, 4), bool)
    mask[:, :2] = True
    assert masked_psnr(pred, truth, mask) == pytest.approx(20.0)
    with pytest.raises(ValueError, match="no pixel"):
        masked_psnr(pred, truth, np.zeros((4, 4), bool))
    with pytest.raises(ValueError, match="bool"):
        masked_psnr(pred, truth, mask.astype(float))


def test_ssim_of_flat_images_by_hand():
    # Without variance only the luminance term is left: (2ab + c1) / (a^2 + b^2 + c1).
    a, b = np.full((16, 16, 3), 0.2), np.full((16, 16, 3), 0.6)
    assert ssim(a, b) == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4), rel=1e-6)
    assert ssim(a, a) == pytest.approx(1.0)


def test_ssim_of_one_window_by_hand():
    # An 11x11 image holds one window, so the moments are plain weighted means.
    generator = np.random.default_rng(0)
    a, b = generator.uniform(0, 1, (2, 11, 11, 3))
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window = (window / window.sum())[..., None]
    expected = []
    for channel in range(3):
        x, y = a[..., channel : channel + 1], b[..., channel : channel + 1]
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
        covariance = (window * (x - mx) * (y - my)).sum()
        top = (2 * mx * my + 1e-4) * (2 * covariance + 9e-4)
        expected.append(top / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert ssim(a, b) == pytest.approx(np.mean(expected), rel=1e-10)


def test_ssim_ignores_what_no_full_window_centres_on_only_partly():
    # "valid": a fault in the corner is seen by fewer windows than one in the middle.
    truth = photo()
    corner, middle = truth.copy(), truth.copy()
    corner[:4, :4] = 0.0
    middle[10:14, 14:18] = 0.0
    assert ssim(middle, truth) < ssim(corner, truth) < 1.0
    with pytest.raises(ValueError, match="11x11"):
        ssim(truth[:10], truth[:10])


def test_flip_orders_faults_and_finds_them():
    truth = photo()
    assert flip(truth, truth) == 0.0
    slight, strong = np.clip(truth + 0.02, 0, 1), np.clip(truth + 0.3, 0, 1)
    assert 0 < flip(slight, truth) < flip(strong, truth) < 1
    assert flip(np.zeros_like(truth), np.ones_like(truth)) > 0.9
    spot = truth.copy()
    spot[5:8, 20:23] = 1.0
    error = flip_map(spot, truth)
    assert error.shape == truth.shape[:2]
    assert error[6, 21] > 10 * error[20, 3]


def test_colour_correction_removes_an_exposure_change_and_nothing_else():
    truth = photo()
    assert psnr(0.7 * truth + 0.05, truth) < 25
    assert cc_psnr(quantise(0.7 * truth + 0.05), truth) > 45
    mixed = truth @ np.array([[0.8, 0.1, 0.0], [0.1, 0.7, 0.1], [0.0, 0.1, 0.9]])
    assert cc_psnr(mixed, truth) > 45
    shifted = np.roll(truth, 3, axis=1)
    assert cc_psnr(shifted, truth) < psnr(shifted, truth) + 6


def test_colour_correction_fits_used_pixels_alone():
    truth = photo()
    pred = quantise(0.7 * truth)
    pred[:, 16:] = np.random.default_rng(0).uniform(0.2, 0.8, (24, 16, 3))
    mask = np.zeros((24, 32), bool)
    mask[:, :16] = True
    assert cc_psnr(pred, truth, mask) > 45
    assert cc_psnr(pred, truth) < 35


def test_colour_correction_of_clipped_images_stays_finite():
    truth = photo()
    assert np.array_equal(colour_correct(np.zeros_like(truth), truth), np.zeros_like(truth))
    assert np.isfinite(colour_correct(np.full_like(truth, 0.5), truth)).all()


def test_image_metrics_rounds_first():
    truth = photo()
    metrics = image_metrics(truth + 0.4 / 255, truth)  # rounds back to the truth
    assert metrics["psnr"] == 100.0  # capped
    assert metrics["ssim"] == pytest.approx(1.0)
    assert metrics["flip"] == 0.0
    as_bytes = (truth * 255).round().astype(np.uint8)
    assert image_metrics(as_bytes, as_bytes)["psnr"] == 100.0


def test_image_metrics_with_a_mask():
    truth = photo()
    pred = np.clip(truth + 0.1, 0, 1)
    mask = np.zeros((24, 32), bool)
    mask[:, :16] = True
    metrics = image_metrics(pred, truth, mask)
    inside = masked_psnr(quantise(pred), truth, mask)
    assert metrics["masked_psnr"] == pytest.approx(inside)
    assert metrics["psnr"] == pytest.approx(inside + 10 * np.log10(2))  # half of the frame is perfect
    assert "masked_psnr" not in image_metrics(pred, truth)
    assert next(iter(metrics)) == "masked_psnr"


def test_a_photo_whose_every_pixel_is_masked_has_no_figures():
    assert image_metrics(photo(), photo(1), np.zeros((24, 32), bool)) == {}


@pytest.mark.parametrize("shape", [(24, 31, 3), (24, 32, 4), (24, 32)])
def test_shapes_must_agree(shape):
    with pytest.raises(ValueError, match="shape"):
        psnr(np.zeros(shape), photo())
