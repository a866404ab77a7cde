"""The figures of pictures after a motion, and the motion that is repeated in another viewer."""

import numpy as np
import pytest

from benchmarks import splat_viewer
from benchmarks.turn import Settling, motion_between
from smerf.errors import MissingPartError


def pose(yaw, distance):
    """Return a camera (4, 4) on a circle about (1, 2, 3) with axis z, or at a place of its own for distance 0."""
    c, s = np.cos(yaw), np.sin(yaw)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[-s, 0, c], [c, 0, s], [0, 1, 0]])
    matrix[:3, 3] = np.array([1.0, 2.0, 3.0]) + distance * matrix[:3, 2]
    return matrix


@pytest.mark.parametrize(("radians", "distance"), [(np.pi / 3, 4.0), (-np.pi / 3, 4.0), (np.pi, 0.0)])
def test_a_motion_leads_from_one_pose_to_the_other(radians, distance):
    first, last = pose(0.4, distance), pose(0.4 + radians, distance)
    motion = motion_between(first, last, 100.0)
    axis, angle = np.array(motion["axis"]), motion["radians"]
    assert abs(angle) == pytest.approx(abs(radians), abs=1e-6)
    k = np.cross(np.eye(3), axis)
    turn = np.eye(3) + np.sin(angle) * k + (1.0 - np.cos(angle)) * k @ k
    np.testing.assert_allclose(turn @ first[:3, :3], last[:3, :3], atol=1e-6)
    centre = np.array(motion["centre"])
    np.testing.assert_allclose(centre + turn @ (first[:3, 3] - centre), last[:3, 3], atol=1e-6)


def test_what_strays_after_the_motion_has_not_settled():
    settled = np.full((10, 10, 3), 100, np.uint8)
    off, near = settled.copy(), settled + np.uint8(2)
    off[:5] += 10
    record = Settling([near, off, near, settled], [5.0, 10.0, 20.0, 30.0], 3).record()
    assert record["within_2"] == 1.0 and record["mean_levels"] == 2.0
    assert record["worst_within_2"] == 0.5 and record["until_ms"] == 20.0


def test_without_npm_the_other_viewer_is_left_out_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(splat_viewer, "_CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(MissingPartError, match="npm"),
        splat_viewer.splat_page(tmp_path / "a.ply", None, (0, 0, 0)),
    ):
        pass
