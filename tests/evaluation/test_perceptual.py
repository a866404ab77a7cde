import numpy as np
import pytest
import torch

from smerf.errors import InvalidDataError, MissingPartError
from smerf.evaluation.metrics import image_metrics, lpips
from smerf.evaluation.perceptual import missing_reason

WIDTHS = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
WIDTHS += [(256, 512)] + [(512, 512)] * 5
INDICES = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
SLICES = [1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("SMERF_LPIPS_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return generator.uniform(0, 1, (2, 16, 16, 3))


def centre_tap_state() -> dict[str, torch.Tensor]:
    """A state whose first layers pass the red channel on: layer distances can be worked out by hand."""
    state = {}
    for index, part, (ins, outs) in zip(INDICES, SLICES, WIDTHS):
        weight = torch.zeros(outs, ins, 3, 3)
        weight[0, 0, 1, 1] = 1.0
        if ins == 3 or index == 2:
            weight[1, 1, 1, 1] = 1.0
        state[f"net.slice{part}.{index}.weight"] = weight
        state[f"net.slice{part}.{index}.bias"] = torch.zeros(outs)
    for layer, channels in enumerate((64, 128, 256, 512, 512)):
        # Only the first comparison counts.
        state[f"lin{layer}.model.1.weight"] = torch.full((1, channels, 1, 1), 1.0 if layer == 0 else 0.0)
    return state


def test_without_weights_there_is_no_value_but_a_reason(images, tmp_path):
    assert lpips(*images) is None
    assert "lpips_vgg" not in image_metrics(*images)
    assert str(tmp_path / "cache") in missing_reason()
    assert "SMERF_LPIPS_WEIGHTS" in missing_reason()


def test_a_variable_that_names_nothing_is_an_error(images, monkeypatch):
    monkeypatch.setenv("SMERF_LPIPS_WEIGHTS", "absent.pt")
    with pytest.raises(MissingPartError, match=r"absent\.pt"):
        lpips(*images)


def test_distance_by_hand(images, tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    torch.save(centre_tap_state(), path)
    monkeypatch.setenv("SMERF_LPIPS_WEIGHTS", str(path))
    features = []
    for image in images:
        scaled = (2 * image[..., :2] - 1 - [-0.030, -0.088]) / [0.458, 0.448]
        red_green = np.maximum(scaled, 0)
        features.append(red_green / (np.linalg.norm(red_green, axis=-1, keepdims=True) + 1e-10))
    expected = ((features[0] - features[1]) ** 2).sum(axis=-1).mean()
    assert lpips(*images) == pytest.approx(expected, rel=1e-4)
    assert lpips(images[0], images[0]) == 0.0
    assert image_metrics(*images)["lpips_vgg"] == pytest.approx(expected, rel=0.05)  # after rounding
    assert missing_reason() is None


def test_weights_are_found_in_the_cache(images, tmp_path):
    from safetensors.torch import save_file

    folder = tmp_path / "cache" / "smerf"
    folder.mkdir(parents=True)
    save_file(centre_tap_state(), folder / "lpips_vgg.safetensors")
    assert lpips(*images) > 0


def test_files_that_hold_something_else(images, tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    monkeypatch.setenv("SMERF_LPIPS_WEIGHTS", str(path))
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(InvalidDataError, match="lacks"):
        lpips(*images)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidDataError, match=r"weights\.pt"):
        lpips(*images)
