"""Pictures smaller than trained: how many rays a pixel takes, and that their mean is that of the large picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from smerf.capture.types import Camera, Intrinsics
from smerf.engine.folder import RunFolder
from smerf.errors import InvalidDataError
from smerf.pipeline.renderers import stage_renderer
from smerf.render import march, reference
from smerf.scene.example import example_camera, example_scene
from smerf.scene.manifest import Manifest, parse_manifest
from smerf.scene.supersample import (
    draw_supersampled,
    pixel_angle,
    rays_in_window,
    rays_per_axis,
    trained_pixel_angle,
)
from smerf.scene.types import BakedScene
from smerf.scene.write import write_scene

TRAINED = pixel_angle(example_camera(96, 72).intrinsics)


def scene_with(angle: float | None) -> BakedScene:
    scene = example_scene(64, region=True)
    scene.manifest = replace(scene.manifest, pixel_angle=angle)
    return scene


def boxes(picture: np.ndarray, n: int) -> np.ndarray:
    height, width = picture.shape[0] // n, picture.shape[1] // n
    return picture.reshape(height, n, width, n, 3).mean((1, 3))


@pytest.mark.parametrize(
    ("ratio", "rays"), [(0.3, 1), (1.0, 1), (1.49, 1), (1.51, 2), (2.0, 2), (3.2, 3), (4.0, 4), (50.0, 4)]
)
def test_pixels_take_as_many_rays_as_they_are_wider_than_the_photos(ratio, rays):
    assert rays_per_axis(ratio * TRAINED, TRAINED) == rays
    assert rays_per_axis(ratio * TRAINED, None) == 1


def test_windows_are_bounded_in_memory():
    assert rays_in_window(4.0, 1.0, 400, 300) == 4
    assert rays_in_window(4.0, 1.0, 1920, 1080) == 2
    assert rays_in_window(4.0, 1.0, 2560, 1440) == 1
    assert rays_in_window(2.0, 1.0, 1280, 800) == 2
    assert rays_in_window(4.0, 1.0, 4000, 20) == 2
    assert rays_in_window(4.0, 1.0, 20_000, 10) == 1


def test_the_median_photo_decides():
    lenses = [Intrinsics("PINHOLE", 40, 30, f, f, 20, 15) for f in (10.0, 50.0, 60.0)]
    assert trained_pixel_angle([Camera(lens, np.eye(3, 4)) for lens in lenses]) == pytest.approx(1 / 50)
    assert trained_pixel_angle([]) is None


@pytest.mark.parametrize("render", [march.render_camera, reference.render_camera])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_smaller_picture_is_the_large_one_scaled_down(render, n):
    large, small = example_camera(48 * n, 36 * n), example_camera(48, 36)
    expected = boxes(render(scene_with(None), large), n)
    drawn = render(scene_with(pixel_angle(large.intrinsics)), small)
    assert drawn.shape == (36, 48, 3) and drawn.dtype == np.float32
    # Rounding decides which cell a ray at a border sees.
    assert np.percentile(np.abs(drawn - expected), 99.5) < 1 / 255
    assert np.abs(render(scene_with(None), small) - expected).mean() > 4 * np.abs(drawn - expected).mean()


@pytest.mark.parametrize("render", [march.render_camera, reference.render_camera])
def test_a_picture_as_fine_as_the_photos_is_not_touched(render):
    camera = example_camera(96, 72)
    assert np.array_equal(render(scene_with(TRAINED), camera), render(scene_with(None), camera))


def test_measurements_on_small_pictures_may_take_one_ray(tmp_path):
    scene, camera = scene_with(TRAINED), example_camera(24, 18)
    write_scene(tmp_path / "baked", scene.params, scene.mlp, [scene.submodel(0)], scene.manifest)
    run = RunFolder(tmp_path)
    quick, usual = (stage_renderer(run, "baked", "cpu", is_quick=each)(camera) for each in (True, False))
    assert np.array_equal(quick, march.render_camera(scene_with(None), camera))
    assert np.array_equal(usual, march.render_camera(scene, camera)) and not np.array_equal(quick, usual)


def test_bands_of_rows_join_whatever_the_lens():
    lens = Intrinsics("OPENCV", 700, 301, 500.0, 480.0, 340.0, 160.0, (0.1, -0.02, 0.001, 0.002))
    bands = []

    def rows(part: Camera) -> np.ndarray:
        """Each pixel says where on the sensor it lies, in focal lengths."""
        own = part.intrinsics
        bands.append(own.height)
        assert own.distortion == lens.distortion
        y, x = np.mgrid[: own.height, : own.width] + 0.5
        return np.stack([(x - own.cx) / own.fx, (y - own.cy) / own.fy, 0 * x], -1)

    drawn = draw_supersampled(Camera(lens, np.eye(3, 4)), pixel_angle(lens) / 4, rows)
    y, x = np.mgrid[:301, :700] + 0.5
    assert len(bands) > 1 and drawn.shape == (301, 700, 3)
    assert np.allclose(drawn[..., 0], (x - 340.0) / 500.0, atol=1e-6)
    assert np.allclose(drawn[..., 1], (y - 160.0) / 480.0, atol=1e-6)


def test_the_manifest_keeps_it_and_refuses_what_is_no_angle():
    value = Manifest(pixel_angle=0.002).to_json()
    assert parse_manifest(value, "manifest").pixel_angle == 0.002
    assert "pixel_angle" not in Manifest().to_json()
    assert parse_manifest(Manifest().to_json(), "manifest").pixel_angle is None
    with pytest.raises(InvalidDataError, match="pixel_angle"):
        parse_manifest(value | {"pixel_angle": -1}, "manifest")
