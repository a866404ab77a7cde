"""Small models and scenes for the tests of object scenes."""

import dataclasses

import torch

from smerf.objects.config import make_config
from smerf.objects.data.generate import RECIPES, generate_scenes
from smerf.objects.model.osrt import Osrt

SETTINGS = (
    "image=[16,16]",
    "encoder.width=24",
    "encoder.heads=2",
    "encoder.hidden=32",
    "encoder.patch_width=24",
    "slots.count=4",
    "slots.width=24",
    "slots.hidden=32",
    "decoder.heads=2",
    "decoder.inner=24",
    "decoder.hidden=32",
    "decoder.render_width=24",
    "training.held_out=2",
    "training.batch=2",
    "training.rays=32",
)


def tiny_config(*settings):
    return make_config("cpu-tiny", (*SETTINGS, *settings))


def tiny_model(*settings, seed=0):
    torch.manual_seed(seed)
    return Osrt(tiny_config(*settings)).eval().requires_grad_(False)


def tiny_scenes(count=4, seed=0, **changes):
    recipe = dataclasses.replace(RECIPES["easy"], **{"size": (16, 16), "views": 3, **changes})
    return generate_scenes(recipe, count, seed, depth=True)


def encode(model, scenes, views=1):
    given = slice(0, views)
    with torch.no_grad():
        return model.encode(scenes.images(given), scenes.world_from_cam[:, given], scenes.fov_x[:, given])


def random_rays(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(*shape, 3, generator=generator) * 3
    directions = torch.nn.functional.normalize(torch.randn(*shape, 3, generator=generator), dim=-1)
    return origins, directions
