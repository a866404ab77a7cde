"""STAR's tubelets: a query is a thing over time, labels count where they are given, and clips become tracks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from smerf.vision.blocks import BlockConfig
from smerf.vision.tubelets import Found, Truth, TubeletDecoder, box_iou, link, match, tubelet_loss
from smerf.vision.video import Vivit, VivitConfig

BLOCK = BlockConfig(64, 4, 128, qk_norm="layer")
STEPS = 4


def squares(count, seed):
    """Return clips (B, 8, 3, 32, 32) of one or two coloured squares that move before grey, and the truth."""
    random = np.random.default_rng(seed)
    video = np.full((count, 8, 3, 32, 32), 0.5, np.float32) + random.normal(0, 0.02, (count, 8, 3, 32, 32))
    boxes, shown = np.zeros((count, 8, 2, 4), np.float32), np.zeros((count, 8, 2), bool)
    for clip in range(count):
        for thing in range(random.integers(1, 3)):
            size, colour = random.integers(7, 13), random.uniform(0, 1, 3)
            start, end = random.uniform(0, 32 - size, (2, 2))
            for frame in range(8):
                x, y = np.rint(start + (end - start) * frame / 7).astype(int)
                video[clip, frame, :, y : y + size, x : x + size] = colour[:, None, None]
                boxes[clip, frame, thing] = np.array([x + size / 2, y + size / 2, size, size]) / 32
                shown[clip, frame, thing] = True
    labelled = torch.ones(count, 8, dtype=torch.bool)
    return torch.from_numpy(video).float(), Truth(torch.from_numpy(boxes), torch.from_numpy(shown), labelled)


def model(seed=0, queries=6):
    torch.manual_seed(seed)
    config = VivitConfig(BLOCK, 2, 8, (32, 32), (2, 8, 8), 0, "factorised_attention", pool="mean")
    return Vivit(config), TubeletDecoder(BLOCK, 2, queries, STEPS, 2)


def any_found(seed=0, clips=2, queries=5):
    generator = torch.Generator().manual_seed(seed)
    boxes = 0.2 + 0.5 * torch.rand(clips, 8, queries, 4, generator=generator)
    return Found(boxes.requires_grad_(), torch.randn(clips, 8, queries, generator=generator).requires_grad_())


@pytest.mark.slow
def test_four_clips_are_learnt_to_three_quarters_of_overlap():
    trunk, decoder = model()
    video, truth = squares(4, 0)
    optimiser = torch.optim.AdamW([*trunk.parameters(), *decoder.parameters()], 2e-3)
    for step in range(220):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 10) * 0.2 ** (step / 220)
        found = decoder(trunk.tokens(video))
        optimiser.zero_grad()
        sum(tubelet_loss(found, truth).values()).backward()
        torch.nn.utils.clip_grad_norm_([*trunk.parameters(), *decoder.parameters()], 1.0)
        optimiser.step()
    found = decoder(trunk.tokens(video))
    overlaps = []
    for clip, (queries, things) in enumerate(match(found, truth)):
        assert found.logits[clip][:, queries].mean() > 0.0
        overlaps.append(box_iou(found.boxes[clip][:, queries], truth.boxes[clip][:, things]).mean())
    assert torch.stack(overlaps).mean() >= 0.75


def test_swapping_two_queries_of_space_swaps_their_tubelets():
    _, decoder = model()
    tokens = torch.randn(2, STEPS, 16, 64)
    before = decoder(tokens)
    with torch.no_grad():
        decoder.space[[1, 4]] = decoder.space[[4, 1]]
    after, order = decoder(tokens), [0, 4, 2, 3, 1, 5]
    assert torch.allclose(after.boxes, before.boxes[:, :, order], atol=1e-5)
    assert torch.allclose(after.logits, before.logits[:, :, order], atol=1e-5)
    assert not torch.allclose(before.boxes[:, :, 1], before.boxes[:, :, 4], atol=1e-3)


def test_a_clip_without_labels_teaches_nothing_and_one_that_shows_nobody_lowers_scores():
    found = any_found()
    nothing = Truth(
        torch.rand(2, 8, 3, 4), torch.ones(2, 8, 3, dtype=torch.bool), torch.zeros(2, 8, dtype=torch.bool)
    )
    sum(tubelet_loss(found, nothing).values()).backward()
    assert not found.boxes.grad.any() and not found.logits.grad.any()
    nobody = Truth(nothing.boxes, torch.zeros_like(nothing.shown), ~nothing.labelled)
    sum(tubelet_loss(found, nobody).values()).backward()
    assert not found.boxes.grad.any() and (found.logits.grad > 0).all()


def test_a_sparse_clip_is_taught_on_its_labelled_frames_alone():
    found = any_found(clips=1)
    truth = Truth(
        torch.rand(1, 8, 2, 4), torch.ones(1, 8, 2, dtype=torch.bool), torch.zeros(1, 8, dtype=torch.bool)
    )
    truth.labelled[0, [0, 7]] = True
    sum(tubelet_loss(found, truth).values()).backward()
    taught = found.boxes.grad.abs().sum((2, 3))[0] > 0
    assert taught.tolist() == [True] + 6 * [False] + [True]
    assert (found.boxes.grad[0, 0].abs().sum(-1) > 0).sum() == 2


def test_matching_has_the_least_loss_and_does_not_depend_on_the_order_of_things():
    found, (_, truth) = any_found(clips=3), squares(3, 1)
    order = torch.tensor([1, 0])
    turned = Truth(truth.boxes[:, :, order], truth.shown[:, :, order], truth.labelled)
    for (queries, things), (other, others) in zip(match(found, truth), match(found, turned)):
        assert queries.tolist() == other.tolist() and things.tolist() == order[others].tolist()
    one, two = tubelet_loss(found, truth), tubelet_loss(found, turned)
    assert all(torch.equal(one[name], two[name]) for name in one)
    perfect = Found(truth.boxes.clone(), torch.where(truth.shown, 9.0, -9.0))
    assert float(tubelet_loss(perfect, truth)["box"]) == pytest.approx(0.0, abs=1e-5)
    assert [pair[0].tolist() for pair in match(perfect, truth)] == [
        pair[1].tolist() for pair in match(perfect, truth)
    ]


def test_overlap_and_its_generalised_form_are_as_by_hand():
    one, two = torch.tensor([0.25, 0.5, 0.5, 1.0]), torch.tensor([0.75, 0.5, 0.5, 1.0])
    half = torch.tensor([0.5, 0.5, 0.5, 1.0])
    assert float(box_iou(one, half)) == pytest.approx(1 / 3) and float(box_iou(one, two)) == 0.0
    apart = torch.tensor([0.125, 0.5, 0.25, 1.0]), torch.tensor([0.875, 0.5, 0.25, 1.0])
    assert float(box_iou(*apart, generalised=True)) == pytest.approx(-0.5)


def test_clips_are_joined_to_tracks_by_the_frames_they_share():
    boxes = np.linspace(0.2, 0.7, 16)[:, None] + np.zeros((16, 4))
    boxes[:, 2:] = 0.2
    other = np.broadcast_to([0.5, 0.1, 0.1, 0.1], (16, 4))
    clips = []
    for start in (0, 4, 8):
        things = [boxes[start : start + 8], other[start : start + 8]]
        # The numbers of queries differ from clip to clip, and one finds nothing.
        order = [0, 1] if start != 4 else [1, 0]
        own = np.stack([things[k] for k in order] + [np.full((8, 4), 0.9)], 1)
        clips.append((start, own, np.tile([0.9, 0.8, 0.1], (8, 1))))
    tracks = link(clips)
    assert [(track.first, track.end) for track in tracks] == [(0, 16), (0, 16)]
    assert np.allclose(np.stack(tracks[0].boxes), boxes) and np.allclose(np.stack(tracks[1].boxes), other)
    late = link([*clips[:1], (4, clips[1][1] + 0.5, clips[1][2])])
    assert len(late) == 4 and late[2].first == 4
