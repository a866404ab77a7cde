"""The people segmenter: as its original runtime answers, at any size of photo, from weights whose record is true."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

from smerf.errors import InvalidDataError
from smerf.vision.convert_people import read_network
from smerf.vision.people import PeopleFinder, find_people
from tests.helpers.imports import ROOT

DATA = ROOT / "data" / "people"
# Means over 16 x 16 pixels, two rows, as LiteRT 2.3.0 answers for ``person()`` by the original file.
HEAD = [0.0] * 6 + [0.5567, 1.0, 1.0, 0.6252] + [0.0] * 6
SHOULDERS = [0.0] * 4 + [0.3949] + [1.0] * 6 + [0.4492] + [0.0] * 4


def person():
    """Return a drawn person before a wall, float32 (144, 256, 3)."""
    y, x = np.mgrid[0:144, 0:256].astype(np.float32)
    wall = np.stack([0.35 + 0 * x, 0.42 + 0 * x, 0.5 + 0 * x], -1)
    image = wall + 0.1 * np.sin(x / 23)[..., None] * np.cos(y / 17)[..., None]

    def ellipse(cx, cy, rx, ry, colour):
        inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
        shaded = (0.6 + 0.4 * np.clip(1 - inside, 0, 1))[..., None] * np.array(colour, np.float32)
        image[inside < 1] = shaded[inside < 1]

    ellipse(128, 140, 58, 62, (0.15, 0.2, 0.45))
    ellipse(128, 86, 12, 20, (0.75, 0.55, 0.45))
    ellipse(128, 58, 24, 31, (0.85, 0.64, 0.53))
    ellipse(128, 40, 26, 20, (0.2, 0.13, 0.1))
    ellipse(119, 56, 3, 2, (0.1, 0.1, 0.1))
    ellipse(137, 56, 3, 2, (0.1, 0.1, 0.1))
    ellipse(128, 72, 8, 2.5, (0.6, 0.25, 0.25))
    return image.clip(0, 1).astype(np.float32)


def test_the_network_answers_as_its_original_does():
    likely = PeopleFinder()(torch.from_numpy(person()).permute(2, 0, 1)[None])[0]
    means = likely.view(9, 16, 16, 16).mean((1, 3)).numpy()
    assert np.abs(means[2] - HEAD).max() < 2e-4
    assert np.abs(means[7] - SHOULDERS).max() < 2e-4
    assert means[0].max() < 1e-3


def test_people_are_found_in_photos_of_other_shapes():
    small = np.round(255 * person()).astype(np.uint8)
    for photo in (small.repeat(2, 0).repeat(2, 1), small[:, 64:192]):
        found = find_people(photo)
        height, width = photo.shape[:2]
        assert found.shape == (height, width)
        assert found[int(0.7 * height) :, int(0.4 * width) : int(0.6 * width)].mean() > 0.95
        assert not found[: height // 10].any()
    assert not find_people(np.full((90, 160, 3), 128, np.uint8)).any()


def test_the_shipped_weights_are_those_of_the_record_with_their_licence():
    record = json.loads((DATA / "record.json").read_text())
    assert record["sha256"] == hashlib.sha256((DATA / "people.safetensors").read_bytes()).hexdigest()
    assert "Apache License" in (DATA / "LICENSE").read_text() and "Apache-2.0" in record["source"]["licence"]
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 300_000


def test_another_file_is_not_converted(tmp_path):
    path = tmp_path / "other.tflite"
    path.write_bytes(b"\0" * 64)
    with pytest.raises(InvalidDataError, match="TensorFlow Lite"):
        read_network(path)
