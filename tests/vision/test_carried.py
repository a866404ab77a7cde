"""Queries that are carried over the frames of a video, and photos in an order that passes for one."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

from smerf.capture.types import Camera, Intrinsics
from smerf.vision.blocks import BlockConfig
from smerf.vision.carried import CarriedConfig, VideoOwl, order_by_pose
from smerf.vision.clip import ClipConfig, ImageConfig, WordConfig
from smerf.vision.owl import Owl, OwlConfig

BLOCK = BlockConfig(16, 2, 32)
WORDS = WordConfig(BlockConfig(12, 2, 24), 1, 40, 6)


def video_owl(layers=2, has_objectness=False):
    torch.manual_seed(0)
    towers = ClipConfig(ImageConfig(BLOCK, 1, 16, 4), WORDS, 12)
    return VideoOwl(Owl(OwlConfig(towers, has_objectness)), CarriedConfig(5, layers, BLOCK)).eval()


def some(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def frames():
    return list(some(4, 2, 3, 16, 16))


@pytest.fixture
def words():
    return functional.normalize(some(2, 3, 12, seed=1), dim=-1)


@torch.no_grad()
def test_without_layers_the_tracks_stand_still(frames, words):
    found = list(video_owl(layers=0)(frames, words))
    assert len(found) == 4 and found[0].boxes.shape == (2, 5, 4)
    assert all(torch.equal(each.boxes, found[0].boxes) for each in found)


@torch.no_grad()
def test_a_frame_knows_those_before_it_and_none_after(frames, words):
    model = video_owl()
    found = list(model(frames, words))
    later = list(model([*frames[:2], frames[3], frames[2]], words))
    assert all(torch.equal(found[i].boxes, later[i].boxes) for i in range(2))
    earlier = list(model([frames[1], *frames[1:]], words))
    assert not torch.allclose(found[1].boxes, earlier[1].boxes)
    alone = list(model(frames, words, carry=False))
    assert torch.equal(alone[2].boxes, next(model(frames[2:], words)).boxes)


@torch.no_grad()
def test_words_are_told_apart_whatever_their_order(frames, words):
    model, order = video_owl(has_objectness=True), [2, 0, 1]
    used = torch.tensor([[True, True, False]] * 2)
    for one, other, padded in zip(
        model(frames, words), model(frames, words[:, order]), model(frames, words, used)
    ):
        assert torch.allclose(one.logits[..., order], other.logits, atol=1e-6)
        assert one.objectness.shape == (2, 5)
        assert (padded.logits.argmax(-1) < 2).all()


def test_what_a_late_frame_lacks_reaches_the_first(frames, words):
    model = video_owl()
    early = frames[0].clone().requires_grad_()
    list(model([early, *frames[1:]], words))[-1].boxes.sum().backward()
    assert early.grad.abs().max() > 0 and model.start.grad.abs().max() > 0


def test_a_decoder_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"block\.width: is 8; the detector's image tower has 16"):
        VideoOwl(video_owl().owl, CarriedConfig(5, 1, BlockConfig(8, 2, 16)))


def camera(angle, *, outward=False):
    """Look at the origin, or away from it, from a circle around it."""
    back = np.array([math.cos(angle), math.sin(angle), 0.0])
    axis = -back if outward else back
    right = np.cross([0.0, 0.0, 1.0], axis)
    rotation = np.stack([right, np.array([0.0, 0.0, 1.0]), axis], 1)
    lens = Intrinsics("PINHOLE", 8, 8, 8.0, 8.0, 4.0, 4.0)
    return Camera(lens, np.concatenate([rotation, back[:, None]], 1))


def test_photos_of_a_walk_are_put_in_its_order():
    places = np.random.default_rng(0).permutation(24)
    places = [0, *places[places > 0].tolist()]
    order = [places[i] for i in order_by_pose([camera(0.26 * place) for place in places])]
    steps = {(second - first) % 24 for first, second in pairwise(order)}
    assert sorted(order) == list(range(24)) and len(steps) == 1 and steps <= {1, 23}


def test_photos_from_one_place_that_look_apart_are_not_neighbours():
    cameras = [camera(0.0), camera(0.0, outward=True), camera(0.3), camera(0.3, outward=True)]
    assert order_by_pose(cameras) == [0, 2, 3, 1]
