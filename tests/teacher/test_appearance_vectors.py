from dataclasses import replace

import pytest
import torch

from smerf.errors import InvalidDataError
from smerf.teacher import load_teacher, train_teacher
from smerf.teacher.appearance import AppearanceVectors, ExposureScales, relative_exposures
from tests.helpers.ball import make_capture
from tests.helpers.shrunk_teacher import make_trainer, shrunk


def vectors(frames=4, length=6, geometry=5):
    return AppearanceVectors(frames, length, geometry, torch.Generator().manual_seed(0))


def test_no_photo_differs_before_it_has_learnt():
    factor, offset = vectors()(torch.tensor([0, 3, 3]), 3)
    assert torch.equal(factor, torch.ones(3, 5)) and torch.equal(offset, torch.zeros(3, 5))


def test_photos_learn_their_own_factor_and_the_zero_vector_stays_between():
    part = vectors()
    adam = torch.optim.Adam(part.parameters(), lr=0.05)
    frames, wanted = torch.arange(4), torch.tensor([0.5, 0.8, 1.2, 1.5])[:, None]
    for _ in range(150):
        adam.zero_grad()
        (part(frames, 4)[0] - wanted).square().mean().backward()
        adam.step()
    assert (part(frames, 4)[0] - wanted).abs().max() < 0.05
    neutral, _ = part(None, 2)
    assert neutral.shape == (2, 5) and torch.equal(neutral[0], neutral[1])
    assert ((neutral > 0.4) & (neutral < 1.6)).all()


def test_gain_is_the_exposure_over_the_median_one():
    scales = ExposureScales(relative_exposures([0.02, 0.01, 0.04]), "gain")
    assert scales(torch.tensor([0, 1, 2, 1])).tolist() == [[1.0] * 3, [0.5] * 3, [2.0] * 3, [0.5] * 3]


def test_learnt_factors_leave_the_median_exposure_alone():
    scales = ExposureScales(relative_exposures([0.02, 0.01, 0.04, 0.02]), "learned")
    frames = torch.arange(4)
    scales(frames).square().sum().backward()
    with torch.no_grad():
        scales.log_factors -= 0.1 * scales.log_factors.grad
    found = scales(frames)
    assert torch.equal(found[0], torch.ones(3))
    assert torch.equal(found[3], found[0])
    assert (found[1] < 1).all() and (found[2] < 1).all()


def test_a_photo_without_exposure_is_refused():
    with pytest.raises(InvalidDataError, match=r"1 of 2 training photos have no exposure.*exposure=off"):
        relative_exposures([0.1, None])


def test_what_no_photo_says_is_evaluated_with_the_zero_vector(tmp_path):
    trainer = make_trainer(make_capture(tmp_path / "ball", count=4), shrunk("paper", appearance=4))
    for _ in range(3):
        trainer.advance()
    model, points = trainer.model, torch.rand(10, 3)
    before = model.colour(points, torch.eye(3)[[0] * 10])
    with torch.no_grad():
        model.appearance.vectors += 5.0
    assert torch.equal(model.colour(points, torch.eye(3)[[0] * 10]), before)


def test_a_teacher_on_disk_knows_what_exposures_make_of_its_colours(tmp_path):
    capture = make_capture(tmp_path / "ball", count=4)
    exposures = [0.01, 0.02, 0.02, 0.04]
    frames = tuple(replace(f, exposure=exposures[i % 4], split="train") for i, f in enumerate(capture.frames))
    capture = replace(capture, frames=frames)
    config = shrunk("paper", exposure="learned", steps=8, network_lr=0.05)
    teacher = train_teacher(capture, config, folder=tmp_path / "teacher")
    loaded = load_teacher(tmp_path / "teacher")
    assert loaded.exposures == (0.01, 0.02, 0.02, 0.04)
    for one, other in zip(loaded.exposure.table(), teacher.exposure.table()):
        assert torch.equal(one, other)
    relative, factors = loaded.exposure.table()
    assert relative.tolist() == [0.5, 1.0, 1.0, 2.0] and torch.equal(factors[1], torch.ones(3))
    assert (factors[0] != 1.0).any()
