"""Optional accelerators: named when absent, and called with the package's conventions when present."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from smerf.errors import MissingPartError
from smerf.fields import accelerators
from smerf.fields.grid_field import FieldConfig, GridField
from smerf.fields.rays import Rays
from smerf.kernels import Frustums, HashSpec, importance_sample

GRID = HashSpec(3, 2, 10, 4, 16)


def rays(count=5):
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return Rays(torch.zeros(count, 3), directions, torch.full((count,), 0.01))


@pytest.mark.parametrize("name", ["tinycudann", "nerfacc"])
def test_without_a_gpu_the_message_says_so(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingPartError, match=f"{name}: runs on NVIDIA GPUs.*install it.*own") as caught:
        accelerators.require_accelerator(name)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["tinycudann", "nerfacc"])
def test_an_absent_package_is_named_with_its_fix(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPartError, match=f"{name}: can't be imported.*pip install"):
        accelerators.require_accelerator(name)


def test_a_field_asks_for_its_backend_when_it_is_built(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingPartError, match=r"teacher\.backend=own"):
        GridField(FieldConfig(GRID, 16, 8, 16), torch.Generator(), backend="tcnn")


class FakeEncoding(nn.Module):
    def __init__(self, inputs, config, dtype):
        super().__init__()
        self.config, self.weight = (
            config,
            nn.Parameter(torch.ones(config["n_levels"] * config["n_features_per_level"])),
        )

    def forward(self, x):
        return x.sum(-1, keepdim=True) * self.weight


class FakeNetwork(nn.Linear):
    def __init__(self, inputs, outputs, config):
        super().__init__(inputs, outputs, bias=False)
        self.config = config


def test_a_field_runs_on_encodings_and_networks_of_another_package(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    fake = types.SimpleNamespace(Encoding=FakeEncoding, Network=FakeNetwork)
    monkeypatch.setattr(accelerators.importlib, "import_module", lambda name: fake)
    field = GridField(FieldConfig(GRID, 32, 8, 64, 2), torch.Generator(), scale_features=True, backend="tcnn")
    assert field.encoder.config["per_level_scale"] == pytest.approx(2.0)
    assert field.colour_network.config["otype"] == "FullyFusedMLP"
    assert field.colour_network.config["n_hidden_layers"] == 2
    edges = torch.linspace(0.1, 1.0, 5).expand(5, 5).contiguous()
    density, colour = field(rays(), edges, Frustums())
    assert density.shape == (5, 4) and colour.shape == (5, 4, 3)
    (density.sum() + colour.sum()).backward()
    assert field.encoder.weight.grad.any()


def test_sampling_hands_over_edges_and_cumulative_weights(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    seen = {}

    def draw(intervals, cdf, count, stratified):
        seen.update(cdf=cdf, stratified=stratified)
        weights = cdf.diff(dim=-1)
        return types.SimpleNamespace(vals=importance_sample(intervals.vals, weights, count)), None

    modules = {
        "nerfacc": types.SimpleNamespace(),
        "nerfacc.pdf": types.SimpleNamespace(importance_sampling=draw),
        "nerfacc.data_specs": types.SimpleNamespace(
            RayIntervals=lambda vals: types.SimpleNamespace(vals=vals)
        ),
    }
    monkeypatch.setattr(accelerators.importlib, "import_module", modules.__getitem__)
    edges, weights = torch.linspace(0, 1, 9).expand(3, -1), torch.rand(3, 8)
    found = accelerators.nerfacc_sample(edges, weights, 6, True, 0.1)
    torch.testing.assert_close(found, importance_sample(edges, weights, 6, None, 0.1), rtol=0, atol=1e-5)
    assert seen["stratified"] and (seen["cdf"][:, 0] == 0).all()
    torch.testing.assert_close(seen["cdf"][:, -1], torch.ones(3))
