"""Objects in the native march and the reference: hidden, lit, and whose a pixel is."""

import numpy as np
import pytest

from smerf.errors import UsageError
from smerf.render import march as native
from smerf.render import reference
from smerf.render.camera import near_rays
from smerf.scene.example import example_camera, example_scene
from smerf.scene.view import HIGHLIGHT, MarchOptions

RED, BLUE = 1, 77


@pytest.fixture(scope="module")
def scene():
    return example_scene(64, objects=True)


@pytest.fixture(scope="module")
def camera():
    return example_camera(40, 30)


def ids_of_reference(scene, camera, options):
    _, directions = near_rays(camera, scene.manifest.near)
    found = reference.render_ids(scene, 0, camera.world_from_cam[None, :3, 3], directions, options)
    return found.reshape(camera.intrinsics.height, camera.intrinsics.width)


@pytest.mark.parametrize(
    "options",
    [
        MarchOptions(hidden=frozenset([BLUE])),
        MarchOptions(lit=frozenset([RED])),
        MarchOptions(hidden=frozenset([0, RED]), lit=frozenset([BLUE])),
    ],
)
@pytest.mark.parametrize("region", [False, True])
def test_objects_look_as_the_reference_draws_them(camera, options, region):
    scene = example_scene(64, objects=True, region=region)
    ours = native.render_camera(scene, camera, options=options)
    theirs = reference.render_camera(scene, camera, options=options)
    assert (np.abs(ours - theirs).max(-1) <= 1 / 255).mean() >= 0.999
    assert not np.array_equal(ours, native.render_camera(scene, camera))
    ids = native.render_ids(scene, camera, options=options)
    assert ids.dtype == np.uint8 and not np.isin(ids, [*options.hidden - {0}]).any()
    # Rounding may decide between two objects that hold half of a ray each.
    assert (ids == ids_of_reference(scene, camera, options)).mean() >= 0.999


def test_nothing_hidden_nothing_lit_is_the_picture_of_a_scene_without_ids(scene, camera):
    plain = example_scene(64)
    assert np.array_equal(native.render_camera(scene, camera), native.render_camera(plain, camera))
    assert np.array_equal(reference.render_camera(scene, camera), reference.render_camera(plain, camera))
    assert not native.render_ids(plain, camera).any()
    hides = MarchOptions(hidden=frozenset([BLUE]))
    assert np.array_equal(
        native.render_camera(plain, camera, options=hides), native.render_camera(plain, camera)
    )


def test_what_is_behind_a_hidden_object_appears_and_the_rest_stays(scene, camera):
    ids = native.render_ids(scene, camera)
    before = native.render_camera(scene, camera)
    after = native.render_camera(scene, camera, options=MarchOptions(hidden=frozenset([BLUE])))
    assert set(np.unique(ids)) == {0, RED, BLUE}
    changed = np.abs(after - before).max(-1) > 2 / 255
    assert changed[ids == BLUE].mean() > 0.95
    assert changed[ids == RED].mean() < 0.1 and changed[ids == 0].mean() < 0.2


def test_lit_pixels_are_half_the_highlight(scene, camera):
    before = native.render_camera(scene, camera)
    lit = native.render_camera(scene, camera, options=MarchOptions(lit=frozenset([RED])))
    middle = np.argwhere(native.render_ids(scene, camera) == RED).mean(0).astype(int)
    x, y = middle[1], middle[0]
    assert np.allclose(lit[y, x], 0.5 * (before[y, x] + HIGHLIGHT), atol=0.02)


def test_an_id_that_no_byte_holds_is_refused():
    with pytest.raises(UsageError, match="object 256"):
        MarchOptions(hidden=frozenset([3, 256]))


def test_several_depths_of_a_ray_are_those_of_one_march_each(scene, camera):
    spent = (0.9, 0.5, 0.1)
    found = native.render_depths(scene, camera, spent)
    assert found.shape == (30, 40, 3)
    for i, each in enumerate(spent):
        assert np.array_equal(found[..., i], native.render_depth(scene, camera, spent=each))
    hit = (found > 0).all(-1)
    assert hit.mean() > 0.5 and (np.diff(found[hit], axis=-1) >= 0).all()
    with pytest.raises(ValueError, match="at most 8"):
        native.render_depths(scene, camera, (0.5,) * 9)
