from dataclasses import replace

import pytest
import torch

from smerf.capture import load_capture
from smerf.engine.loop import run_steps
from smerf.fields.ray_bank import camera_rays
from smerf.student.losses import student_losses
from smerf.student.optimizer import ExplicitOptimizer, FusedOptimizer
from smerf.student.plan import resolve_config
from smerf.student.trainer import StudentTrainer
from smerf.teacher import load_teacher, save_teacher
from tests.helpers.ball import write_capture
from tests.helpers.shrunk_teacher import QUICK
from tests.helpers.shrunk_teacher import make_trainer as make_teacher_trainer
from tests.helpers.toy_room import CONFIG, Room, make_capture

FORMS = {
    "explicit": replace(CONFIG, grid_lr=0.03, steps=30),
    "hash": replace(CONFIG, parameterisation="hash", grid_lr=0.01, rays=256, steps=40),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def begin(tmp_path, config, **more):
    capture = make_capture(tmp_path)
    return StudentTrainer(Room(), capture, resolve_config(config, Room(), capture), **more)


def start(tmp_path, config, **more):
    trainer = begin(tmp_path, config, **more)
    trainer.prepare()
    return trainer


def schedule_of(tmp_path, **changes):
    return begin(tmp_path, replace(CONFIG, **changes))


def test_learning_rate_rises_then_decays_evenly_in_its_logarithm(tmp_path):
    trainer = schedule_of(tmp_path, steps=200_000, final_lr=0.03, warmup_steps=100)
    rates = {}
    for trainer.step in (0, 49, 99, 1_000, 50_000, 100_000, 200_000):
        rates[trainer.step] = 1e-2 * trainer.learning_rate()
    assert rates[0] == pytest.approx(1e-4) and rates[49] == pytest.approx(5e-3, rel=1e-3)
    assert rates[99] == pytest.approx(9.982e-3, rel=1e-3)
    assert rates[1_000] == pytest.approx(9.826200e-3)
    assert rates[50_000] == pytest.approx(4.161791e-3)
    assert rates[100_000] == pytest.approx(1.732051e-3)
    assert rates[200_000] == pytest.approx(3.0e-4)


def test_culling_threshold_follows_the_published_schedule(tmp_path):
    trainer = schedule_of(
        tmp_path, steps=200_000, tau_start=5e-4, tau_end=5e-3, tau_ramp_start=0.4, tau_ramp_end=0.8
    )
    golden = {0: 0.0, 79_999: 0.0, 80_000: 5e-4, 100_000: 8.891397e-4, 120_000: 1.5811388e-3, 160_000: 5e-3}
    for trainer.step, wanted in (golden | {200_000: 5e-3}).items():
        assert trainer.tau() == pytest.approx(wanted, rel=1e-5)


def test_without_a_warm_up_the_first_step_has_the_full_rate(tmp_path):
    assert schedule_of(tmp_path, warmup_steps=0).learning_rate() == 1.0


def test_distilling_approaches_the_teacher(tmp_path, form):
    trainer = start(tmp_path, form)
    first = trainer.advance()["colour"]
    assert run_steps(trainer, form.steps) and trainer.step == form.steps
    trainer.finish()
    with torch.no_grad():
        given = trainer.step_rays(trainer.rays.sample(1024))
        last = float(student_losses(trainer.record, trainer.submodel, given).losses["colour"])
    assert last < 0.25 * first
    camera = make_capture(tmp_path, size=16).frames[2].camera
    answer = Room().query(camera_rays(camera))
    image = torch.from_numpy(trainer.student.render_image(camera)).view(-1, 3)
    assert (image - answer.colour).square().mean() < 0.08**2
    assert trainer.submodel.occupied.grid().any()


def test_only_what_weighs_is_marked_for_baking(tmp_path):
    trainer = start(tmp_path, replace(CONFIG, occupied_rays=4096, occupied_weight=0.02))
    trainer.finish()
    marked = torch.from_numpy(trainer.submodel.occupied.grid())
    size = len(marked)
    steps = (torch.arange(size) + 0.5) * (4.0 / size) - 2.0
    x, y, z = torch.meshgrid(steps, steps, steps, indexing="ij")
    density = Room().density(torch.stack([-x, z, y], -1))
    # Walls and spheres are visible, air is not.
    assert density[marked].mean() > 10.0
    air = (density < 0.05) & (torch.stack([x, y, z]).abs().amax(0) < 1.0)
    assert air.sum() > 200 and marked[air].float().mean() < 0.02


@pytest.mark.parametrize("changes", [{}, {"patch": 3}, {"patch": 3, "distortion_weight": 0.1, "lattice": 3}])
def test_the_fused_step_has_the_losses_of_the_separate_kernels(tmp_path, changes):
    config = replace(FORMS["explicit"], **changes)
    shown = schedule_of(tmp_path, patch=config.patch).rays.sample(90)
    neighbour = {
        "origins": shown.rays.origins,
        "directions": shown.rays.directions,
        "colour": 0.5 * shown.colour + 0.2,
    }
    fused = start(tmp_path, config, shared_rays=[neighbour])
    apart = start(tmp_path, replace(config, fused=False), shared_rays=[neighbour])
    assert fused.back_end is FusedOptimizer and apart.back_end is ExplicitOptimizer
    assert len(fused.consistency) >= 90
    losses, wanted = fused.advance(), apart.advance()
    assert list(losses) == list(wanted) and ("dssim" in losses) == (config.patch > 1)
    assert losses == pytest.approx(wanted, rel=1e-4)
    # Small gradients are the rounding of large ones.
    for one, other in zip(fused.submodel.appearance.parameters(), apart.submodel.appearance.parameters()):
        clear = other.grad.abs() > 1e-2 * other.grad.abs().max()
        torch.testing.assert_close(one.grad[clear], other.grad[clear], rtol=1e-2, atol=0.0)


def test_photos_teach_the_colours_that_the_teacher_evened(tmp_path):
    capture = load_capture(write_capture(tmp_path / "ball", count=10))
    teacher = make_teacher_trainer(capture, QUICK).model
    frames = capture.split("train")
    teacher.gains = torch.ones(len(frames), 3)
    teacher.gains[1] = torch.tensor([2.0, 1.0, 4.0])
    save_teacher(teacher, tmp_path)
    config = replace(CONFIG, photo_fraction=0.5)
    banks = []
    for source in (make_teacher_trainer(capture, QUICK).model, load_teacher(tmp_path)):
        banks.append(StudentTrainer(source, capture, resolve_config(config, source, capture)).rays.bank)
    rows = torch.arange(len(banks[0]))
    plain, evened = (bank.gather(rows) for bank in banks)
    is_bright = plain.frames == 1
    wanted = plain.colours / torch.where(is_bright[:, None], teacher.gains[1], 1.0)
    torch.testing.assert_close(evened.colours, wanted)
    assert is_bright.any()
