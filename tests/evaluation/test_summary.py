import json

import numpy as np
import pytest

from smerf.evaluation.metrics import METRIC_PROTOCOL
from smerf.evaluation.summary import hash_images, summarise


def test_means_are_over_images():
    per_image = {"a.png": {"psnr": 20.0, "ssim": 0.5}, "b.png": {"psnr": 30.0, "ssim": 0.7}}
    summary = summarise(
        per_image, METRIC_PROTOCOL | {"split": "test"}, predictions_sha="00", method_name="teacher"
    )
    assert summary["results"]["psnr"] == 25.0
    assert summary["results"]["psnr_std"] == pytest.approx(np.sqrt(50.0))
    assert summary["results"]["ssim"] == pytest.approx(0.6)
    assert summary["num_images"] == 2
    assert summary["per_image"] == per_image
    assert summary["protocol"]["split"] == "test"
    assert summary["protocol"]["quantized"] is True
    assert summary["predictions_sha"] == "00"
    assert summary["method_name"] == "teacher"
    assert "ground_truth_sha" not in summary
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_one_image_has_no_spread():
    assert summarise({"a": {"psnr": 20.0}}, {})["results"] == {"psnr": 20.0, "psnr_std": 0.0}


def test_a_metric_of_some_images_says_of_how_many():
    results = summarise({"a": {"psnr": 20.0, "masked_psnr": 18.0}, "b": {"psnr": 22.0}}, {})["results"]
    assert results["masked_psnr"] == 18.0
    assert results["masked_psnr_num_images"] == 1
    assert "psnr_num_images" not in results


def test_empty_and_infinite_results_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        summarise({}, {})
    with pytest.raises(ValueError, match="psnr of a"):
        summarise({"a": {"psnr": float("inf")}}, {})


def test_a_hash_follows_8_bit_values_shape_and_order():
    first, second = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    assert hash_images([first, second]) == hash_images([first / 255.0, (second / 255.0).astype(np.float32)])
    assert hash_images([first, second]) != hash_images([second, first])
    assert hash_images([first]) != hash_images([first.reshape(6, 4, 3)])
