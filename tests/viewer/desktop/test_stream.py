"""Submodels arrive while another is drawn, and leave when memory is short."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from smerf.errors import InvalidDataError
from smerf.scene.example import example_scene
from smerf.viewer.desktop.stream import Streamer, nearest_neighbour
from smerf.viewer.desktop.submodel import pack

# Eight regions of a 2^3 grid; these are the centres of the three that exist.
REGIONS = (1, 2, 5)


@pytest.fixture(scope="module")
def scene():
    scene = example_scene(64, 2, REGIONS)
    made = [scene.load(k) for k in range(3)]
    scene.load = lambda k: made[k]
    return scene


@pytest.fixture
def stream(gl, scene):
    opened = []

    def stream(ceiling, scene=scene):
        opened.append(Streamer(scene, ceiling))
        return opened[-1]

    yield stream
    for streamer in opened:
        streamer.close()


def centre(scene, k):
    return scene.params.submodel_centre(k)


def visit(streamer, position, seconds=20.0):
    end = time.monotonic() + seconds
    while True:
        drawn = streamer.submodel_for(position)
        streamer.poll(1.0)
        if streamer.is_wanted_shown or streamer.error:
            return drawn
        assert time.monotonic() < end, "the submodel did not arrive"
        time.sleep(0.001)


def size_of(scene):
    return max(pack(k, scene.load(k)).nbytes for k in range(3))


def test_walking_through_all_submodels_holds_the_ceiling(stream, scene):
    ceiling = int(2.2 * size_of(scene))
    streamer = stream(ceiling)
    for k in (0, 1, 2, 0, 2, 1):
        assert visit(streamer, centre(scene, k)).k == k
        assert streamer.nbytes <= ceiling and len(streamer.resident) <= 2
    assert size_of(scene) < streamer.peak_bytes <= ceiling


def test_under_a_ceiling_for_one_submodel_the_former_one_goes_once_the_next_is_drawn(stream, scene):
    streamer = stream(int(1.5 * size_of(scene)))
    for k in (0, 1, 2):
        assert visit(streamer, centre(scene, k)).k == k
        assert list(streamer.resident) == [k] and streamer.nbytes <= streamer.ceiling_bytes


def test_the_ceiling_counts_every_texture_of_a_submodel(gl, stream, scene):
    drawn = visit(stream(10 * size_of(scene)), centre(scene, 0))
    bytes_of_format = {gl.GL_RGBA8: 4, gl.GL_RGBA8UI: 4, gl.GL_RG8UI: 2}
    held = 0
    for name, texture in drawn.textures.items():
        target = gl.GL_TEXTURE_2D_ARRAY if name.startswith("planes") else gl.GL_TEXTURE_3D
        gl.glBindTexture(target, texture)
        keys = (gl.GL_TEXTURE_WIDTH, gl.GL_TEXTURE_HEIGHT, gl.GL_TEXTURE_DEPTH, gl.GL_TEXTURE_INTERNAL_FORMAT)
        *edges, form = (int(gl.glGetTexLevelParameteriv(target, 0, key)) for key in keys)
        held += int(np.prod(edges)) * bytes_of_format[form]
    assert drawn.nbytes == held > 0


def test_with_room_for_all_nothing_is_read_twice(stream, scene):
    read = []
    load = scene.load
    counting = example_scene(64, 2, REGIONS)
    counting.load = lambda k: (read.append(k), load(k))[1]
    streamer = stream(10 * size_of(scene), counting)
    for k in (0, 1, 2, 0, 1, 2):
        assert visit(streamer, centre(scene, k)).k == k
    assert sorted(read) == [0, 1, 2]


def test_the_old_submodel_is_drawn_until_the_new_one_is_complete(stream, scene):
    gate = threading.Event()
    load = scene.load
    slow = example_scene(64, 2, REGIONS)
    slow.load = lambda k: (k == 0 or gate.wait(10), load(k))[1]
    streamer = stream(10 * size_of(scene), slow)
    visit(streamer, centre(scene, 0))
    there = centre(scene, 1)
    for _ in range(5):
        assert streamer.submodel_for(there).k == 0 and not streamer.is_wanted_shown and streamer.is_loading
        streamer.poll()
    gate.set()
    end = time.monotonic() + 10
    while not streamer.is_wanted_shown and time.monotonic() < end:
        assert streamer.submodel_for(there).is_complete
        # No time at all still uploads a piece at a time.
        streamer.poll(0.0)
        assert streamer.submodel_for(there).is_complete
    assert streamer.submodel_for(there).k == 1


def test_a_broken_submodel_is_named_and_the_others_stay_usable(stream, scene):
    load = scene.load

    def broken(k):
        if k == 1:
            raise InvalidDataError("sm_002/plane_rgb_1.png: cannot be decoded")
        return load(k)

    bad = example_scene(64, 2, REGIONS)
    bad.load = broken
    streamer = stream(10 * size_of(scene), bad)
    visit(streamer, centre(scene, 0))
    assert visit(streamer, centre(scene, 1)).k == 0
    assert "plane_rgb_1.png" in streamer.error
    assert visit(streamer, centre(scene, 2)).k == 2 and streamer.error is None


def test_the_next_region_is_fetched_ahead_when_the_camera_nears_it(stream, scene):
    # Submodel 0 is region (0, 0, 1), submodel 2 region (1, 0, 1): neighbours across x = 0.
    streamer = stream(10 * size_of(scene))
    visit(streamer, np.array([-0.5, -0.5, 0.5]))
    near = np.array([-0.05, -0.5, 0.5])
    end = time.monotonic() + 10
    while 2 not in streamer.resident and time.monotonic() < end:
        assert streamer.submodel_for(near).k == 0
        streamer.poll(1.0)
    assert set(streamer.resident) == {0, 2}
    # Without room for both it waits until it is needed.
    tight = stream(int(1.5 * size_of(scene)))
    visit(tight, near)
    for _ in range(50):
        tight.submodel_for(near)
        tight.poll(1.0)
    assert set(tight.resident) == {0}


def test_the_nearest_missing_region(scene):
    params = scene.params
    assert nearest_neighbour(params, np.array([-0.05, -0.5, 0.5]), {1, 2}) == 2
    assert nearest_neighbour(params, np.array([-0.5, -0.5, 0.5]), {1, 2}) is None
