import importlib
from dataclasses import replace

import pytest
import torch
from toy_room import CONFIG, Room, make_capture

from smerf.engine.checkpoint import load_latest, save_checkpoint
from smerf.fields.ray_bank import camera_rays
from smerf.student.fused import FusedParameters
from smerf.student.stage import distill
from smerf.student.store import load_student
from smerf.student.trainer import StudentTrainer

FORMS = {
    "explicit": replace(CONFIG, grid_lr=0.03, steps=30),
    "hash": replace(CONFIG, parameterisation="hash", grid_lr=0.01, rays=256, steps=40),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def start(tmp_path, config, **more):
    trainer = StudentTrainer(Room(), make_capture(tmp_path), config, **more)
    trainer.prepare()
    return trainer


def schedule_of(tmp_path, **changes):
    return StudentTrainer(Room(), make_capture(tmp_path), replace(CONFIG, **changes))


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
    trainer = schedule_of(tmp_path, steps=200_000, tau_start=5e-4, tau_end=5e-3, tau_from=0.4, tau_until=0.8)
    golden = {0: 0.0, 79_999: 0.0, 80_000: 5e-4, 100_000: 8.891397e-4, 120_000: 1.5811388e-3, 160_000: 5e-3}
    for trainer.step, wanted in (golden | {200_000: 5e-3}).items():
        assert trainer.tau() == pytest.approx(wanted, rel=1e-5)


def test_distilling_approaches_the_teacher(tmp_path, form):
    trainer = start(tmp_path, form)
    first = trainer.advance()["colour"]
    for _ in trainer.run():
        pass
    assert trainer.step == form.steps
    trainer.finish()
    with torch.no_grad():
        last = float(trainer.losses(trainer.rays.fresh(1024), 0)["colour"])
    assert last < 0.25 * first
    camera = make_capture(tmp_path, size=16).frames[2].camera
    answer = Room().query(camera_rays(camera))
    image = torch.from_numpy(trainer.student.render_image(camera)).view(-1, 3)
    assert (image - answer.colour).square().mean() < 0.08**2
    assert trainer.student.alive[0].grid().any()


def test_only_what_weighs_is_marked_for_baking(tmp_path):
    trainer = start(tmp_path, replace(CONFIG, alive_rays=4096, alive_weight=0.02))
    trainer.finish()
    alive = trainer.student.alive[0].grid()
    size = alive.shape[0]
    steps = (torch.arange(size) + 0.5) * (4.0 / size) - 2.0
    x, y, z = torch.meshgrid(steps, steps, steps, indexing="ij")
    density = Room().density(torch.stack([-x, z, y], -1))
    marked = torch.from_numpy(alive)
    # Walls and spheres are seen, air is not.
    assert density[marked].mean() > 10.0
    air = (density < 0.05) & (torch.stack([x, y, z]).abs().amax(0) < 1.0)
    assert air.sum() > 200 and marked[air].float().mean() < 0.02


@pytest.mark.parametrize("changes", [{}, {"patch": 3}, {"patch": 3, "distortion_weight": 0.1, "lattice": 3}])
def test_the_fused_step_has_the_losses_of_the_separate_kernels(tmp_path, monkeypatch, changes):
    config = replace(FORMS["explicit"], **changes)
    shown = schedule_of(tmp_path, patch=config.patch).rays.fresh(90)
    neighbour = {
        "origins": shown.rays.origins,
        "directions": shown.rays.directions,
        "colour": 0.5 * shown.colour + 0.2,
    }
    fused = start(tmp_path, config, shown=[neighbour])
    monkeypatch.setattr(FusedParameters, "fit", staticmethod(lambda config, device: False))
    apart = start(tmp_path, config, shown=[neighbour])
    assert fused.fused and not apart.fused and len(fused.agreement) >= 90
    losses, wanted = fused.advance(), apart.advance()
    assert list(losses) == list(wanted) and ("dssim" in losses) == (config.patch > 1)
    assert losses == pytest.approx(wanted, rel=1e-4)
    assert fused.mean_square == pytest.approx(apart.mean_square, rel=1e-4)
    # Small gradients are the rounding of large ones.
    for one, other in zip(fused.student.appearance.parameters(), apart.student.appearance.parameters()):
        clear = other.grad.abs() > 1e-2 * other.grad.abs().max()
        torch.testing.assert_close(one.grad[clear], other.grad[clear], rtol=1e-2, atol=0.0)


def test_everything_finished_survives_a_checkpoint(tmp_path, form):
    first = start(tmp_path, replace(form, uses=1e9))
    for _ in range(6):
        first.advance()
    save_checkpoint(tmp_path / "run", first.step, first.tensors(), {"step": first.step})
    step, tensors, state = load_latest(tmp_path / "run")
    second = StudentTrainer(Room(), make_capture(tmp_path), first.config)
    second.restore(tensors, state)
    assert second.step == first.step == step == 6
    assert second.learning_rate() == first.learning_rate()
    saved = second.tensors()
    for name, value in first.tensors().items():
        # The pool was filled anew, so random draws differ from here on.
        if name != "generator":
            assert torch.equal(value, saved[name]), name

    # Given the same rays, both go on alike.
    batch = first.rays.sample(256)
    for trainer in (first, second):
        trainer.rays.sample = lambda count: batch
        trainer.generator.manual_seed(4)
    for _ in range(2):
        assert first.advance() == second.advance()
    saved = second.tensors()
    assert all(torch.equal(value, saved[name]) for name, value in first.tensors().items())


def test_a_stopped_distillation_goes_on_and_writes_a_student(tmp_path, monkeypatch):
    config = replace(FORMS["hash"], steps=12, alive_rays=2048, pool=2048)
    capture, folder, steps = make_capture(tmp_path), tmp_path / "student", []
    module = importlib.import_module("smerf.student.stage")
    monkeypatch.setattr(module, "stop_requested", lambda: len(steps) == 5)

    def progress(step, total, **losses):
        assert 0 <= step <= total
        if losses:
            steps.append(losses)

    distill(Room(), capture, config, folder=folder, progress=progress)
    assert len(steps) == 5 and load_latest(folder)[0] == 5
    student = distill(Room(), capture, config, folder=folder, progress=progress)
    assert len(steps) == 12
    loaded = load_student(folder)
    assert torch.equal(loaded.grids[0].planes, student.grids[0].planes)
    assert loaded.config == config
