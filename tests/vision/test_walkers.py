"""What moves before poses exist: clips with true labels, a model that begins as its input, data sets with heads."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from smerf.cli.main import main
from smerf.engine.loop import resume, run_steps
from smerf.engine.progress import Progress
from smerf.errors import UsageError
from smerf.pipeline.video_frames import own_clips
from smerf.vision.clips import FRAMES, SIZE, Clips, half_size, make_clips, reduced_size
from smerf.vision.figures import Capsule, draw, person
from smerf.vision.motion import Motion, doubtful_clips, find_motion, shipped_walkers
from smerf.vision.tubelets import Track
from smerf.vision.walkers import Walkers, WalkersConfig, input_score, load_walkers, save_walkers
from smerf.vision.walkers_train import (
    OWN,
    ROOMS,
    WalkersTrainer,
    WalkersTraining,
    losses,
    recall_at,
    train_walkers,
)
from tests.helpers.imports import ROOT
from tests.vision.test_stabilise import clip

DATA = ROOT / "data" / "walkers"
SMALL = WalkersConfig(width=16, heads=2, hidden=16, layers=1, queries=3)


def toy(count=6, seed=0):
    """Return clips in which a square differs and moves."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, 40, (count, FRAMES, 5, *SIZE), generator=generator, dtype=torch.uint8)
    moving = torch.zeros(count, FRAMES, *half_size(), dtype=torch.uint8)
    boxes, shown = torch.zeros(count, FRAMES, 3, 4), torch.zeros(count, FRAMES, 3, dtype=torch.bool)
    for number in range(count):
        for frame in range(FRAMES):
            x = 4 + 3 * frame + number
            inputs[number, frame, 3:, 20:50, 2 * x : 2 * x + 16] += 60
            moving[number, frame, 10:25, x : x + 8] = 254
            boxes[number, frame, 0] = torch.tensor([(x + 4) / 48, 17.5 / 36, 8 / 48, 15 / 36])
            shown[number, frame, 0] = True
    return Clips(inputs, moving, boxes, shown, torch.ones(count, FRAMES, dtype=torch.bool))


def test_the_untrained_model_ranks_pixels_as_its_input_does():
    torch.manual_seed(0)
    model, clips = Walkers(SMALL), toy(2)
    inputs = clips.inputs.float() / 255.0
    logits = model(inputs, "rooms").moving
    plain = torch.nn.functional.avg_pool2d(input_score(inputs.flatten(0, 1)), 2)[:, 0].view_as(logits)
    with torch.no_grad():
        model.heads["rooms"].pixels.weight.zero_()
    order = model(inputs, "rooms").moving.flatten()[plain.flatten().argsort()]
    assert (order.diff() >= -1e-5).all()
    found = recall_at(model, clips, "rooms")
    assert found["recall"] == pytest.approx(found["recall_of_input"], abs=0.02)


def test_it_learns_to_mark_whole_things_and_files_keep_it(tmp_path):
    torch.manual_seed(0)
    model, clips = Walkers(SMALL), toy()
    config = WalkersTraining(SMALL, steps=30, batch=2, rate=5e-3, warmup=5)
    trainer = WalkersTrainer(model, {ROOMS: clips}, config)
    before = losses(model(clips.inputs.float() / 255.0, ROOMS), clips)
    run_steps(trainer, 30, is_shared=False)
    after = losses(model(clips.inputs.float() / 255.0, ROOMS), clips)
    assert after["pixels"].item() < 0.7 * before["pixels"].item()
    save_walkers(tmp_path / "walkers.safetensors", model)
    loaded = load_walkers(tmp_path / "walkers.safetensors", ("rooms", "own"))
    with torch.no_grad():
        one, two = (each.eval()(clips.inputs.float() / 255.0, "rooms").moving for each in (model, loaded))
        own = loaded(clips.inputs.float() / 255.0, "own").moving
    assert torch.allclose(one, two, atol=0.05) and torch.equal(own, two)


def test_a_step_on_one_data_set_leaves_the_head_of_another_and_its_moments_alone():
    torch.manual_seed(0)
    config = WalkersTraining(SMALL, steps=4, batch=2, quotas=((ROOMS, 1), (OWN, 1)))
    model = Walkers(WalkersConfig(**{**vars(SMALL), "sets": (ROOMS, OWN)}))
    trainer = WalkersTrainer(model, {ROOMS: toy(), OWN: toy(seed=1)}, config)
    assert sorted(trainer._order) == [OWN, OWN, ROOMS, ROOMS]
    trainer._order = [ROOMS, ROOMS, OWN, OWN]
    own = [each.clone() for each in model.heads[OWN].parameters()]
    trainer.advance()
    trainer.advance()
    assert all(torch.equal(a, b) for a, b in zip(own, model.heads[OWN].parameters()))
    assert not any(each in trainer._adam.state for each in model.heads[OWN].parameters())
    trainer.advance()
    assert not any(torch.equal(a, b) for a, b in zip(own, model.heads[OWN].parameters()))


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    config = WalkersTraining(SMALL, steps=6, batch=2)

    def trainer():
        torch.manual_seed(0)
        return WalkersTrainer(Walkers(SMALL), {ROOMS: toy()}, config)

    whole, first, second = trainer(), trainer(), trainer()
    run_steps(whole, 6, is_shared=False)
    run_steps(first, 6, tmp_path, is_shared=False, stop=lambda: first.step == 3)
    assert resume(second, tmp_path, is_shared=False) and second.step == 3
    run_steps(second, 6, is_shared=False)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_what_nobody_knows_teaches_nothing():
    torch.manual_seed(0)
    model, clips = Walkers(SMALL), toy(2)
    unknown = Clips(**{
        **vars(clips),
        "moving": torch.full_like(clips.moving, Clips.UNKNOWN),
        "labelled": torch.zeros_like(clips.labelled),
    })  # fmt: skip
    torch.stack(list(losses(model(clips.inputs.float() / 255.0, "rooms"), unknown).values())).sum().backward()
    assert not any(each.grad is not None and each.grad.any() for each in model.parameters())


def test_doubtful_labels_are_certain_only_where_people_and_differences_agree():
    frames, where = clip(0.6)
    for index in range(FRAMES):
        frames[index][where[index]] = ((250, 20, 20), (20, 250, 20), (20, 20, 250))[index % 3]
    people = np.zeros_like(where)
    people[3] = where[3] & (np.arange(where.shape[2]) < 64)
    people[3, 10:30, 150:190] = True
    moving = doubtful_clips(frames, people).moving[0, 3]
    at = lambda y, x: int(moving[round(0.3 * y), round(0.24 * x)])  # noqa: E731
    assert at(80, 54) == 254 and at(80, 76) == Clips.UNKNOWN
    assert at(20, 170) == Clips.UNKNOWN and at(20, 100) == 0


def test_masks_without_a_model_cover_who_walks_and_leave_the_room():
    frames, where = clip(0.6)
    found = find_motion(frames, None)
    assert found[where].mean() > 0.7 and found[~where].mean() < 0.12
    assert not find_motion(clip()[0], None).any()


def test_boxes_of_a_track_cover_who_moves_in_the_frames_that_are_certain():
    where = clip(0.6)[1]
    boxes = []
    for frame in where:
        y, x = np.flatnonzero(frame.any(1)), np.flatnonzero(frame.any(0))
        low, high = np.array([x[0], y[0]]), np.array([x[-1], y[-1]]) + 1
        boxes.append(np.concatenate([(low + high) / 2, high - low]) / np.tile(frame.shape[::-1], 2))
    track = Track(0, boxes, [0.9] * 7 + [0.1])
    followed = Motion(np.zeros(where.shape, np.float32), (track,)).followed()
    assert followed[:7][where[:7]].mean() >= 0.99 and not followed[7].any()
    assert followed[:7].mean() < 1.5 * where[:7].mean()


def test_a_figure_hides_what_is_behind_and_is_hidden_by_what_is_before():
    y, x = np.mgrid[0:40, 0:40] / 40.0 - 0.5
    rays = np.stack([x, np.ones_like(x), -y], -1)
    near = [Capsule(np.array([0, 2.0, -0.3]), np.array([0, 2.0, 0.3]), 0.2, np.ones(3))]
    far = person(np.array([1.0, 4.0, -1.0]), 0.0, 0.0, 2.0, np.full((2, 3), 0.5))
    behind = np.full((40, 40), np.inf)
    behind[:20] = 3.0
    _, number = draw([near, far], np.zeros(3), rays, behind)
    assert number[20, 20] == 0 and not (number[:20] == 1).any()
    assert (number[20:] == 1).any()


def test_your_own_frames_become_clips_and_too_few_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("smerf.vision.people.find_people", lambda photo: np.ones(photo.shape[:2], bool))
    for index, frame in enumerate(clip(0.6)[0]):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    own = own_clips([tmp_path], quiet_progress)
    assert len(own) == 1 and (own.moving == 254).any() and (own.moving == Clips.UNKNOWN).any()
    assert not own.labelled.any()
    (tmp_path / "7.png").unlink()
    command = ["vision", "train", "walkers", "-o", str(tmp_path / "run"), "-q"]
    assert main([*command, "--own", str(tmp_path)]) == 2 and "7 frames" in capsys.readouterr().err
    assert main([*command, "--set", "quotas=[[rooms,1],[own,1]]"]) == 2 and "own" in capsys.readouterr().err
    names = ["vision", "train", "names", "-o", str(tmp_path / "names"), "-q"]
    assert main([*names, "--own", str(tmp_path)]) == 2 and "of walkers" in capsys.readouterr().err
    assert main([*command, "--set", "step=3"]) == 2 and "steps" in capsys.readouterr().err


def quiet_progress(name, unit, total):
    return Progress(name, total, unit, quiet=True)


@pytest.mark.slow
def test_clips_are_made_trained_on_and_recorded_in_one_folder(tmp_path):
    pytest.importorskip("embreex", reason="rendering rooms needs embreex")
    config = WalkersTraining(SMALL, ("tabletop",), rooms=2, figures=2, held_out=1, steps=3, batch=2)
    record = train_walkers(tmp_path, config, progress=quiet_progress)
    with pytest.raises(UsageError, match="seed"):
        train_walkers(tmp_path, dataclasses.replace(config, seed=1), progress=quiet_progress)
    assert record["clips"] == {ROOMS: 2} and record["held_out"]["clips"] == 2
    clips = next(make_clips("tabletop", [0], 2, 0))
    again = next(make_clips("tabletop", [0], 2, 0))
    assert torch.equal(clips.inputs, again.inputs) and clips.inputs.shape == (2, FRAMES, 5, *SIZE)
    assert (clips.moving.flatten(2).amax(-1) > 127)[clips.shown.any(-1)].float().mean() > 0.8
    kept = train_walkers(
        tmp_path / "b", config, start=tmp_path / "walkers.safetensors", progress=quiet_progress
    )
    assert "before" in kept and isinstance(kept["trained_weights_kept"], bool)
    assert reduced_size(848, 364) == (254, 109)


def test_the_shipped_weights_are_those_of_the_record():
    record = json.loads((DATA / "record.json").read_text())
    assert record["sha256"] == hashlib.sha256((DATA / "walkers.safetensors").read_bytes()).hexdigest()
    assert "smerf vision train walkers" in record["command"]
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 1_000_000
    assert sum(each.numel() for each in load_walkers(shipped_walkers()).parameters()) == record["parameters"]
