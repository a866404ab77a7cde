import subprocess
import sys

import numpy as np
import pytest

from smerf.capture import Camera, Intrinsics, pixel_rays, project
from tests.helpers.capture_layouts import poses

LENSES = {
    "pinhole": Intrinsics("PINHOLE", 54, 96, 68.8, 68.7, 27.7, 48.3),
    # A phone, as COLMAP calibrated it, at a tenth of its size.
    "phone": Intrinsics("OPENCV", 54, 96, 68.78, 68.72, 27.73, 48.26, (0.0578, -0.0805, -0.00098, 0.000156)),
    "barrel": Intrinsics("OPENCV", 64, 43, 43.8, 43.8, 32, 21.5, (-0.25, 0.07, 0.001, -0.002)),
    "rational": Intrinsics(
        "FULL_OPENCV", 64, 48, 50, 51, 31, 25, (0.4, -0.2, 0.001, 0.002, 0.05, 0.3, -0.1, 0.02)
    ),
    "fisheye": Intrinsics("OPENCV_FISHEYE", 64, 64, 26, 26, 32, 32, (0.02, -0.01, 0.003, -0.0005)),
    "fisheye beyond 90 degrees": Intrinsics("OPENCV_FISHEYE", 64, 64, 16, 16, 32, 32, (0.01, 0.0, 0.0, 0.0)),
}


@pytest.mark.parametrize("name", LENSES)
def test_points_along_rays_project_back_to_their_pixels(name):
    lens = LENSES[name]
    camera = Camera(lens, poses()[4])
    origins, directions, _ = pixel_rays(camera)
    depth = np.linspace(0.5, 9.0, len(origins))[:, None]
    points, depths = project(camera, origins.astype(float) + depth * directions)
    columns, rows = np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5)
    expected = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    assert np.abs(points - expected).max() < 1e-3
    np.testing.assert_allclose(depths, depth[:, 0], rtol=1e-5)


@pytest.mark.parametrize("name", LENSES)
def test_chosen_pixels_equal_the_whole_image(name):
    lens = LENSES[name]
    camera = Camera(lens, poses()[2])
    pixels = np.array([[0, 0], [lens.width - 1, lens.height - 1], [5, 40]])
    whole = pixel_rays(camera)
    for chosen, full in zip(pixel_rays(camera, pixels), whole):
        assert chosen.dtype == np.float32
        np.testing.assert_allclose(
            chosen, full.reshape(lens.height, lens.width, -1)[pixels[:, 1], pixels[:, 0]], atol=1e-7
        )


def test_a_pinhole_ray_by_hand():
    lens = Intrinsics("PINHOLE", 8, 6, 10.0, 5.0, 4.0, 3.0)
    camera = Camera(lens, np.concatenate([np.eye(3), [[1.0], [2.0], [3.0]]], axis=1))
    origins, directions, radii = pixel_rays(camera, np.array([[0, 0], [7, 5]]))
    np.testing.assert_allclose(origins, [[1, 2, 3]] * 2)
    # Column 0 is left of the centre (x < 0), row 0 above it (y > 0), and the camera looks along -z.
    np.testing.assert_allclose(directions, [[-0.35, 0.5, -1], [0.35, -0.5, -1]], rtol=1e-6)
    np.testing.assert_allclose(radii, [[0.5 * (0.1 + 0.2) * 2 / np.sqrt(12)]] * 2, rtol=1e-6)


def test_distortion_by_hand():
    lens = Intrinsics("OPENCV", 100, 100, 100.0, 100.0, 50.0, 50.0, (0.1, 0.01, 0.002, 0.003))
    camera = Camera(lens, np.eye(4)[:3])
    x, y = 0.4, 0.3  # OpenCV: y down
    r2 = x * x + y * y
    radial = 1 + 0.1 * r2 + 0.01 * r2 * r2
    u = x * radial + 2 * 0.002 * x * y + 0.003 * (r2 + 2 * x * x)
    v = y * radial + 0.002 * (r2 + 2 * y * y) + 2 * 0.003 * x * y
    points, depth = project(camera, np.array([[2 * x, -2 * y, -2.0]]))
    np.testing.assert_allclose(points, [[50 + 100 * u, 50 + 100 * v]], rtol=1e-12)
    assert depth == pytest.approx([2.0])


def test_fisheye_by_hand():
    lens = Intrinsics("OPENCV_FISHEYE", 100, 100, 30.0, 30.0, 50.0, 50.0, (0.1, 0.0, 0.0, 0.0))
    camera = Camera(lens, np.eye(4)[:3])
    theta = np.radians(100.0)  # behind the image plane
    point = 3.0 * np.array([[np.sin(theta), 0.0, -np.cos(theta)]])
    points, depth = project(camera, point)
    np.testing.assert_allclose(points, [[50 + 30 * theta * (1 + 0.1 * theta**2), 50]], rtol=1e-12)
    assert depth == pytest.approx([3.0])


def test_points_behind_a_perspective_camera_have_no_pixel():
    camera = Camera(LENSES["phone"], np.eye(4)[:3])
    points, depth = project(camera, np.array([[0.1, 0.1, 2.0], [0.0, 0.0, -2.0]]))
    assert np.isnan(points[0]).all()
    assert depth.tolist() == [-2.0, 2.0]
    np.testing.assert_allclose(points[1], [27.73, 48.26])


def test_pixels_must_be_whole_numbers():
    camera = Camera(LENSES["pinhole"], poses()[0])
    with pytest.raises(ValueError, match="pixels"):
        pixel_rays(camera, np.zeros((3, 2)))
    assert all(len(part) == 0 for part in pixel_rays(camera, np.zeros((0, 2), int)))


def test_importing_captures_does_not_import_torch():
    code = "import sys, smerf.capture; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
