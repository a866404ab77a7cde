import dataclasses
import gzip
import io
import json
import logging
import struct
import zipfile

import numpy as np
import pytest

from smerf.errors import InvalidDataError
from smerf.teacher.splat.cloud import covariances_of
from smerf.teacher.splat.formats import read_splats
from tests.helpers import splat_files as files

# Largest error of means, log scales, opacities and coefficients that each format's steps allow.
STEPS = {
    "PLY": (1e-6, 1e-5, 1e-5, 1e-6),
    "compressed PLY": (2e-3, 4e-3, 3e-3, 0.02),
    ".splat": (1e-6, 1e-5, 3e-3, 0.01),
    "SPZ v2": (2e-4, 0.04, 3e-3, 0.02),
    "SPZ v3": (2e-4, 0.04, 3e-3, 0.02),
    "SPZ v4": (2e-4, 0.04, 3e-3, 0.02),
    "SOG v2": (1e-4, 0.02, 3e-3, 0.01),
    "glTF KHR_gaussian_splatting": (1e-6, 1e-5, 1e-6, 1e-6),
}
# Version 2 of SPZ stores no w, which small errors of the others move far where it is near 0.
AXIS_STEP = {"SPZ v2": 0.13, ".splat": 0.03, "SOG v2": 0.02}


def write(folder, kind, splats):
    if kind == "SPZ v4":
        pytest.importorskip("zstandard", reason="SPZ version 4 needs zstandard")
    name, writer = files.FORMATS[kind]
    (folder / name).write_bytes(writer(splats))
    return folder / name


def rotations(quaternions):
    w, x, y, z = quaternions.T
    # The rotation of a quaternion and of its negative are the same.
    return np.stack([w * w, x * x, y * y, z * z, w * x, w * y, w * z, x * y, y * z], 1)


@pytest.mark.parametrize("kind", files.FORMATS)
def test_every_format_gives_back_the_splats(tmp_path, kind):
    splats = files.random_splats()
    cloud = read_splats(write(tmp_path, kind, splats))
    if kind.startswith("glTF"):
        splats = files.turned(splats)
    mean, scale, opacity, sh = STEPS[kind]
    assert cloud.kind == kind and len(cloud) == 300 and cloud.degree == (0 if kind == ".splat" else 1)
    np.testing.assert_allclose(cloud.means, splats.means, atol=mean)
    np.testing.assert_allclose(np.log(cloud.scales), splats.log_scales, atol=scale)
    np.testing.assert_allclose(cloud.opacities, splats.opacities, atol=opacity)
    np.testing.assert_allclose(cloud.sh, splats.sh[:, : cloud.sh.shape[1]], atol=sh)
    wanted = rotations(splats.quaternions)
    np.testing.assert_allclose(rotations(cloud.quaternions), wanted, atol=AXIS_STEP.get(kind, 5e-3))


@pytest.mark.parametrize("degree", [0, 2, 3])
@pytest.mark.parametrize("kind", ["PLY", "compressed PLY", "SPZ v3", "SOG v2", "glTF KHR_gaussian_splatting"])
def test_harmonics_of_every_degree_keep_their_order(tmp_path, kind, degree):
    splats = files.random_splats(40, degree)
    cloud = read_splats(write(tmp_path, kind, splats))
    wanted = files.turned(splats) if kind.startswith("glTF") else splats
    np.testing.assert_allclose(cloud.sh, wanted.sh, atol=0.02)


def test_a_format_is_known_by_its_content(tmp_path):
    splats = files.random_splats(10)
    (tmp_path / "scene.compressed.ply").write_bytes(files.ply(splats))
    assert read_splats(tmp_path / "scene.compressed.ply").kind == "PLY"
    (tmp_path / "scene.bin").write_bytes(files.spz(splats))
    assert read_splats(tmp_path / "scene.bin").kind == "SPZ v3"


def test_an_unbundled_scene_is_read_from_its_folder_and_its_meta(tmp_path):
    for name, data in files.sog_members(files.random_splats(50)).items():
        (tmp_path / name).write_bytes(data)
    assert len(read_splats(tmp_path)) == len(read_splats(tmp_path / "meta.json")) == 50


def test_a_streamed_scene_gives_its_finest_level(tmp_path):
    for level, count in ((0, 30), (1, 10)):
        (tmp_path / f"{level}_0").mkdir()
        for name, data in files.sog_members(files.random_splats(count)).items():
            (tmp_path / f"{level}_0" / name).write_bytes(data)
    node = {"lods": {"0": {"file": 0}, "1": {"file": 1}}}
    meta = {"lodLevels": 2, "filenames": ["0_0/meta.json", "1_0/meta.json"], "tree": {"children": [node]}}
    (tmp_path / "lod-meta.json").write_text(json.dumps(meta))
    assert len(read_splats(tmp_path)) == 30


def test_variants_of_ply_are_read_by_name(tmp_path):
    splats = files.random_splats(20, 0)
    columns = files.ply_columns(splats)
    plain = read_splats(write(tmp_path, "PLY", splats))
    order = [*columns][::-1]
    shuffled = {"nx": np.zeros(20)} | {name: columns[name] for name in order}
    (tmp_path / "brush.ply").write_bytes(
        files.ply_bytes(shuffled, ["Vertical axis: y", "SplatRenderMode: mip"], {"x": "f8"}, ">")
    )
    brush = read_splats(tmp_path / "brush.ply")
    np.testing.assert_allclose(brush.means, plain.means)
    assert brush.antialiased and not plain.antialiased and brush.up == (0.0, -1.0, 0.0)
    bytes_of = {name: np.full(20, 255) for name in ("red", "green", "blue")}
    rgb = {name: value for name, value in columns.items() if not name.startswith("f_dc")} | bytes_of
    (tmp_path / "nerfstudio.ply").write_bytes(
        files.ply_bytes(rgb, ["Vertical Axis: z"], dict.fromkeys(bytes_of, "u1"))
    )
    nerfstudio = read_splats(tmp_path / "nerfstudio.ply")
    assert nerfstudio.up == (0.0, 0.0, 1.0)
    np.testing.assert_allclose(0.5 + files.SH_ZERO * nerfstudio.sh[:, 0], 1.0, atol=1e-5)


def test_a_3d_filter_is_folded_in(tmp_path):
    splats = files.random_splats(20, 0)
    columns = files.ply_columns(splats) | {"filter_3D": np.full(20, 0.05)}
    (tmp_path / "mip.ply").write_bytes(files.ply_bytes(columns))
    cloud = read_splats(tmp_path / "mip.ply")
    before = np.exp(splats.log_scales) ** 2
    np.testing.assert_allclose(cloud.scales**2, before + 0.0025, rtol=1e-4)
    lost = np.sqrt((before / (before + 0.0025)).prod(1))
    np.testing.assert_allclose(cloud.opacities, splats.opacities * lost, rtol=1e-4)
    assert cloud.antialiased and cloud.dilation == 0.1


def test_surfels_are_flat(tmp_path):
    columns = files.ply_columns(files.random_splats(20, 0))
    del columns["scale_2"]
    (tmp_path / "surfels.ply").write_bytes(files.ply_bytes(columns))
    cloud = read_splats(tmp_path / "surfels.ply")
    assert np.linalg.eigvalsh(_matrices(cloud))[:, 0].max() < 1e-8


def _matrices(cloud):
    return covariances_of(cloud)[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3).astype(float)


def test_damaged_rows_are_left_out_and_counted(tmp_path, caplog):
    splats = files.random_splats(20)
    splats.means[3] = np.nan
    splats.quaternions[5] = 0.0
    with caplog.at_level(logging.WARNING):
        cloud = read_splats(write(tmp_path, "PLY", splats))
    assert len(cloud) == 18 and cloud.removed == 2 and "left out 2 of 20" in caplog.text
    splats.means[:15] = np.inf
    with pytest.raises(InvalidDataError, match="not numbers"):
        read_splats(write(tmp_path, "PLY", splats))


def faults(splats):
    columns = files.ply_columns(splats)
    data = files.ply(splats)
    no_scale = {name: value for name, value in columns.items() if name != "scale_1"}
    points = {axis: columns[axis] for axis in "xyz"} | dict.fromkeys(("red", "green", "blue"), np.zeros(20))
    wild = dataclasses.replace(splats, log_scales=splats.log_scales + 50)
    members = files.sog_members(splats)
    meta = json.loads(members["meta.json"])
    return {
        "no end": ("a.ply", data.replace(b"end_header", b"end_hedaer"), "no end"),
        "format": ("a.ply", data.replace(b"binary_little_endian", b"ascii"), "format is 'ascii'"),
        "type": ("a.ply", data.replace(b"property float x", b"property half x"), "'half' is unknown"),
        "short": ("a.ply", data[:-1], "promises 20 rows of vertex and holds 19"),
        "empty": ("a.ply", files.ply_bytes({n: v[:0] for n, v in columns.items()}), "holds no splats"),
        "missing": ("a.ply", files.ply_bytes(no_scale), "no scale_1"),
        "points": ("a.ply", files.ply_bytes(points), "this is a point cloud"),
        "rest": ("a.ply", files.ply_bytes(columns | {"f_rest_9": np.zeros(20)}), "10 f_rest properties"),
        "wild": ("a.ply", files.ply(wild), "out of range"),
        "no splat": ("a.splat", b"\x7f" * 64, "is this a .splat file"),
        "rows": ("a.splat", files.antimatter(splats)[:-1], "no multiple of 32"),
        "raw spz": ("a.spz", b"NGSP\x02\0\0\0" + bytes(24), "holds no splats|is no valid file"),
        "spz count": ("a.spz", _spz_count(splats, 10**9), "promises 1000000000 splats"),
        "spz long": ("a.spz", _spz_count(splats, 19), "larger than its header says|holds"),
        "gzip": ("a.spz", gzip.compress(b"hello"), "no SPZ"),
        "zip": ("a.sog", _zip({"a.txt": b""}), "without meta.json"),
        "sog small": ("a.sog", _zip(members | _meta(meta, count=4000)), "for 4000 splats"),
        "sog file": (
            "a.sog",
            _zip({n: d for n, d in members.items() if n != "quats.webp"}),
            "has no quats.webp",
        ),
        "sog path": (
            "a.sog",
            _zip(members | _meta(meta, quats={"files": ["../quats.webp"]})),
            "outside the scene",
        ),
        "unseen": (
            "a.ply",
            files.ply(dataclasses.replace(splats, opacities=np.full(20, 1e-4))),
            "can be seen",
        ),
        "sog huge": (
            "a.sog",
            _zip(members | _meta(meta, scales=meta["scales"] | {"codebook": [10**400] * 256})),
            "damaged",
        ),
        "sog version": ("a.sog", _zip(members | _meta(meta, version=3)), "version 3"),
        "glb short": ("a.glb", files.glb(splats)[:-8], "beyond its end"),
        "glb kernel": ("a.glb", files.glb(splats).replace(b'"ellipse"', b'"pyramid"'), "not supported"),
    }


def _spz_count(splats, count):
    content = gzip.decompress(files.spz(splats))
    return gzip.compress(content[:8] + struct.pack("<I", count) + content[12:])


def _zip(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return buffer.getvalue()


def _meta(meta, **changes):
    return {"meta.json": json.dumps(meta | changes).encode()}


@pytest.mark.parametrize("fault", faults(files.random_splats(20)))
def test_faults_name_the_file_and_what_is_wrong(tmp_path, fault):
    name, data, message = faults(files.random_splats(20))[fault]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidDataError, match=message) as caught:
        read_splats(tmp_path / name)
    assert name in str(caught.value) and caught.value.exit_code == 4
