"""One and the same camera in the exports of other programs."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from smerf.capture import load_capture
from smerf.capture.readers import read_source
from smerf.errors import InvalidDataError

# Centre (1, 1.5, 2), world y up, rotated 30 degrees to the left and then 10 down; OpenGL camera axes.
GOLDEN = np.array(
    [[0.866025, -0.086824, 0.492404, 1], [0, 0.984808, 0.173648, 1.5], [-0.5, -0.150384, 0.852869, 2]]
)
CV = "0.866025 0.086824 -0.492404 1 0 -0.984808 -0.173648 1.5 -0.5 0.150384 -0.852869 2 0 0 0 1"
# The programs with z up: heading 40, pitch 80, roll 5.
GOLDEN_Z = np.array(
    [
        [0.818301, 0.111619, -0.563848, 1],
        [-0.574591, 0.133022, -0.807558, 2],
        [-0.015134, 0.984808, 0.172987, 1.5],
    ]
)
WIDTH, HEIGHT = 40, 30


def photo(path, size=(WIDTH, HEIGHT)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path)


def only(root):
    """Read the only frame of an export: pose, and the numbers of its intrinsics."""
    (frame,) = read_source(root).frames
    lens = frame.intrinsics
    assert frame.image_path.is_file()
    assert (lens.width, lens.height) == (WIDTH, HEIGHT)
    return frame.world_from_cam, (lens.fx, lens.fy, lens.cx, lens.cy), lens


def refused(root, *parts):
    with pytest.raises(InvalidDataError) as caught:
        load_capture(root)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def write_polycam(root, cameras="corrected_cameras", images="corrected_images", names=("100",)):
    keys = {f"t_{row}{column}": GOLDEN[row, column] for row in range(3) for column in range(4)}
    for name in names:
        photo(root / "keyframes" / images / f"{name}.jpg")
        content = {**keys, "fx": 35, "fy": 36, "cx": 19, "cy": 16, "width": WIDTH, "height": HEIGHT}
        (root / "keyframes" / cameras).mkdir(parents=True, exist_ok=True)
        (root / "keyframes" / cameras / f"{name}.json").write_text(json.dumps(content))
    return root


def test_polycam(tmp_path, caplog):
    root = write_polycam(tmp_path / "a")
    photo(root / "keyframes" / "depth" / "100.png", (20, 20))
    pose, lens, _ = only(root)
    np.testing.assert_allclose(pose, GOLDEN, atol=1e-5)
    assert lens == (35, 36, 19, 16)
    assert read_source(root).frames[0].depth_path is None  # of another shape
    for size in ((20, 15), (80, 60)):
        photo(root / "keyframes" / "depth" / "100.png", size)
        assert read_source(root).frames[0].depth_path.name == "100.png"
    assert not caplog.records
    np.testing.assert_allclose(only(write_polycam(tmp_path / "b", "cameras", "images"))[0], GOLDEN, atol=1e-5)
    assert "phone measured" in caplog.text


def test_polycam_without_a_key(tmp_path):
    path = write_polycam(tmp_path) / "keyframes" / "corrected_cameras" / "100.json"
    content = json.loads(path.read_text())
    del content["t_12"]
    path.write_text(json.dumps(content))
    refused(tmp_path, "100.json", "t_12")


def test_a_photo_that_an_export_lacks_is_left_out_with_one_warning(tmp_path, caplog):
    root = write_polycam(tmp_path, names=("100", "101", "102"))
    (root / "keyframes" / "corrected_images" / "101.jpg").unlink()
    with caplog.at_level(logging.WARNING, logger="smerf"):
        assert len(load_capture(root).frames) == 2
    assert len(caplog.records) == 1
    assert "101.jpg" in caplog.text


SENSOR = """<sensor id="{id}" label="lens {id}" type="frame"><resolution width="{width}" height="{height}"/>
<calibration type="frame" class="adjusted"><resolution width="{width}" height="{height}"/><f>35</f><cx>-1</cx>
<cy>1.5</cy><b1>0.5</b1><k1>0.01</k1><k2>0.02</k2><p1>0.003</p1><p2>0.004</p2>{more}</calibration></sensor>"""


def metashape(root, cameras, chunk="", more="", component=""):
    sensors = SENSOR.format(id=0, width=WIDTH, height=HEIGHT, more=more)
    sensors += SENSOR.format(id=1, width=HEIGHT, height=WIDTH, more="")
    text = f"""<?xml version="1.0" encoding="UTF-8"?><document version="1.5.0"><chunk label="Chunk 1" enabled="true">
    <sensors>{sensors}</sensors><components>{component}</components><cameras>{cameras}</cameras>{chunk}</chunk>
    </document>"""
    root.mkdir(parents=True, exist_ok=True)
    (root / "cameras.xml").write_text(text)
    photo(root / "images" / "DJI_1.JPG")
    return root


CAMERA = (
    '<camera id="0" sensor_id="0" component_id="0" label="DJI_1"><transform>' + CV + "</transform></camera>"
)
SIMILARITY = """<transform><rotation>0 -1 0 1 0 0 0 0 1</rotation><translation>10 0 0</translation>
<scale>2</scale></transform>"""
IN_WORLD = [[0, -0.984808, -0.173648, 7], [0.866025, -0.086824, 0.492404, 2], [-0.5, -0.150384, 0.852869, 4]]


def test_metashape(tmp_path):
    pose, lens, model = only(metashape(tmp_path, CAMERA))
    np.testing.assert_allclose(pose, GOLDEN, atol=1e-5)
    assert lens == (35.5, 35, 19, 16.5)
    # p1 and p2 are swapped against OpenCV's.
    assert (model.model, model.distortion) == ("OPENCV", (0.01, 0.02, 0.004, 0.003))


@pytest.mark.parametrize("where", ["chunk", "component"])
def test_metashape_in_world_coordinates(tmp_path, where):
    component = f'<component id="0">{SIMILARITY}</component>'
    root = metashape(
        tmp_path, CAMERA, **({"chunk": SIMILARITY} if where == "chunk" else {"component": component})
    )
    np.testing.assert_allclose(only(root)[0], IN_WORLD, atol=1e-5)


def test_metashape_with_two_lenses_and_a_camera_without_pose(tmp_path, caplog):
    second = CAMERA.replace('sensor_id="0"', 'sensor_id="1"').replace("DJI_1", "DJI_2")
    unaligned = '<camera id="2" sensor_id="0" label="DJI_3"/>'
    root = metashape(tmp_path, CAMERA + second + unaligned)
    photo(root / "images" / "DJI_2.png", (HEIGHT, WIDTH))
    sizes = {frame.name: frame.camera.intrinsics.width for frame in load_capture(root).frames}
    assert sizes == {"DJI_1.JPG": WIDTH, "DJI_2.png": HEIGHT}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"{root / 'cameras.xml'}: 1 cameras are not aligned and left out"
    ]


def test_metashape_that_cannot_be_read(tmp_path):
    refused(metashape(tmp_path / "a", CAMERA, more="<k4>0.1</k4>"), "cameras.xml", "k4", "undistorted")
    refused(metashape(tmp_path / "b", CAMERA.replace('sensor_id="0"', 'sensor_id="7"')), "DJI_1", "sensor 7")
    refused(metashape(tmp_path / "c", '<camera id="0" sensor_id="0" label="DJI_1"/>'), "no aligned camera")
    root = metashape(tmp_path / "d", CAMERA)
    text = (root / "cameras.xml").read_text()
    (root / "cameras.xml").write_text(text[: len(text) // 2])
    refused(root, "cameras.xml", "not valid XML")
    (root / "cameras.xml").write_text(text.replace("<document", '<!DOCTYPE d [<!ENTITY a "b">]><document'))
    refused(root, "cameras.xml", "entities")


HEADER = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"


def write_realityscan(root, row="1,2,1.5,40,80,5,31.5,-0.9,0.45,0.01,0.02,0.03,0,0.004,0.005"):
    photo(root / "images" / "a.png")
    (root / "cameras.csv").write_text(f"{HEADER}\na.png,{row}\n")
    return root


def test_realityscan_csv(tmp_path):
    pose, lens, model = only(write_realityscan(tmp_path))
    np.testing.assert_allclose(pose, GOLDEN_Z, atol=1e-5)
    assert lens == pytest.approx((35, 35, 19, 15.5))
    assert (model.model, model.distortion) == ("FULL_OPENCV", (0.01, 0.02, 0.004, 0.005, 0.03, 0, 0, 0))


def test_realityscan_csv_that_cannot_be_read(tmp_path):
    refused(write_realityscan(tmp_path / "a", "1,2,1.5,40,80,5,31.5,0,0,0,0,0,0.1,0,0"), "cameras.csv", "k4")
    refused(write_realityscan(tmp_path / "b", "1,2,1.5,left,80,5,31.5,0,0,0,0,0,0,0,0"), "heading", "left")
    root = write_realityscan(tmp_path / "c")
    (root / "cameras.csv").write_text("#name,x,y,alt,heading,pitch,roll\na.png,1,2,1.5,40,80,5\n")
    refused(root, "cameras.csv", "px")


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xcr:Version="3" xcr:FocalLength35mm="31.5" xcr:PrincipalPointU="-0.025"
 xcr:PrincipalPointV="0.0125" xcr:DistortionModel="{model}" xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#">
{pose}<xcr:DistortionCoeficients>0.01 0.02 0 0 0.004 0.005</xcr:DistortionCoeficients>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
XMP_POSE = """<xcr:Rotation>0.818301 -0.574591 -0.015134 -0.111619 -0.133022 -0.984808 0.563848 0.807558
-0.172987</xcr:Rotation><xcr:Position>1 2 1.5</xcr:Position>"""


@pytest.mark.parametrize("folder", ["", "images"])
def test_realityscan_xmp(tmp_path, folder, caplog):
    photo(tmp_path / folder / "a.jpg")
    photo(tmp_path / folder / "b.jpg")
    (tmp_path / folder / "a.xmp").write_text(XMP.format(model="brown3t2", pose=XMP_POSE))
    (tmp_path / folder / "b.xmp").write_text(XMP.format(model="brown3t2", pose=""))
    pose, lens, model = only(tmp_path)
    np.testing.assert_allclose(pose, GOLDEN_Z, atol=1e-5)
    assert lens == pytest.approx((35, 35, 19, 15.5))
    assert model.distortion == (0.01, 0.02, 0.004, 0.005)
    assert "1 photos have an XMP file without a pose" in caplog.text
    (tmp_path / folder / "a.xmp").write_text(XMP.format(model="division", pose=XMP_POSE))
    refused(tmp_path, "a.xmp", "division")


QUATERNION = [-0.084186, 0.257834, 0.022558, 0.962250]


def write_record3d(root, name="metadata.json", folder="rgb", **more):
    photo(root / folder / "0.jpg")
    content = {
        "w": WIDTH,
        "h": HEIGHT,
        "K": [35, 0, 0, 0, 36, 0, 19, 16, 1],
        "poses": [[*QUATERNION, 1, 1.5, 2]],
    }
    (root / name).write_text(json.dumps(content | more))
    return root


@pytest.mark.parametrize(("name", "folder"), [("metadata.json", "rgb"), ("metadata", "rgbd")])
def test_record3d(tmp_path, name, folder):
    pose, lens, _ = only(write_record3d(tmp_path / "a", name, folder))
    np.testing.assert_allclose(pose, GOLDEN, atol=2e-5)
    assert lens == (35, 36, 19, 16)
    own = write_record3d(tmp_path / "b", name, folder, perFrameIntrinsicCoeffs=[[33, 34, 21, 14]])
    assert only(own)[1] == (33, 34, 21, 14)


def test_record3d_of_the_front_camera_and_packed(tmp_path):
    root = write_record3d(tmp_path / "a", poses=[[0, 0, 0, 1, 0, 0, 0]] * 2)
    refused(root, "metadata.json", "front camera", "smerf prepare")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "scan.r3d").write_bytes(b"PK")
    refused(tmp_path / "b", "scan.r3d", "unpack")
    refused(tmp_path / "b" / "scan.r3d", "scan.r3d", "unpack")


STRAY = "1, 1.5, 2, 0.962250, 0.022558, -0.257834, 0.084186\n"


@pytest.mark.parametrize("lines", ["timestamp, frame, x, y, z, qx, qy, qz, qw\n0.1, 000000, " + STRAY, STRAY])
def test_stray_scanner(tmp_path, lines):
    (tmp_path / "odometry.csv").write_text(lines)
    (tmp_path / "camera_matrix.csv").write_text("35.0, 0.0, 19.0\n0.0, 36.0, 16.0\n0.0, 0.0, 1.0\n")
    refused(tmp_path, "rgb.mp4", "ffmpeg")
    photo(tmp_path / "rgb" / "000000.jpg")
    pose, lens, _ = only(tmp_path)
    np.testing.assert_allclose(pose, GOLDEN, atol=2e-5)
    assert lens == (35, 36, 19, 16)
    assert read_source(tmp_path).frames[0].depth_path is None
    photo(tmp_path / "depth" / "000000.png", (20, 15))
    assert read_source(tmp_path).frames[0].depth_path == tmp_path / "depth" / "000000.png"


def test_3d_scanner_app(tmp_path):
    photo(tmp_path / "frame_00000.jpg")
    content = {
        "cameraPoseARFrame": [*GOLDEN.ravel(), 0, 0, 0, 1],
        "intrinsics": [35, 0, 19, 0, 36, 16, 0, 0, 1],
    }
    (tmp_path / "frame_00000.json").write_text(json.dumps(content))
    pose, lens, _ = only(tmp_path)
    np.testing.assert_allclose(pose, GOLDEN, atol=1e-5)
    assert lens == (35, 36, 19, 16)
    photo(tmp_path / "depth_00000.png", (20, 15))
    assert read_source(tmp_path).frames[0].depth_path == tmp_path / "depth_00000.png"
    (tmp_path / "frame_00000.json").write_text(json.dumps(content | {"cameraPoseARFrame": [1, 2]}))
    refused(tmp_path, "frame_00000.json", "16 numbers")


def write_meshroom(root, version, intrinsics, kind="radial3", params=("0.01", "0.02", "0")):
    photo(root / "a.jpg")
    words = CV.split()
    rotation = words[:3] + words[4:7] + words[8:11]
    view = {
        "viewId": "1",
        "poseId": "1",
        "intrinsicId": "5",
        "path": "C:/photos/a.jpg",
        "width": "40",
        "height": "30",
    }
    content = {
        "version": version,
        "views": [view, view | {"viewId": "2", "poseId": "2", "path": "C:/photos/b.jpg"}],
        "intrinsics": [{"intrinsicId": "5", "type": kind, "distortionParams": list(params), **intrinsics}],
        "poses": [
            {"poseId": "1", "pose": {"transform": {"rotation": rotation, "center": ["1", "1.5", "2"]}}}
        ],
    }
    (root / "cameras.sfm").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("version", "intrinsics"),
    [
        (["1", "0", "0"], {"pxFocalLength": "35", "principalPoint": ["19", "16"]}),
        (["1", "2", "0"], {"pxFocalLength": ["35", "35"], "principalPoint": ["19", "16"]}),
        (["1", "2", "1"], {"pxFocalLength": ["35", "35"], "principalPoint": ["-1", "1"]}),
        (["1", "2", "6"], {"focalLength": "31.5", "sensorWidth": "36", "principalPoint": ["-1", "1"]}),
    ],
)
def test_meshroom(tmp_path, version, intrinsics, caplog):
    pose, lens, model = only(write_meshroom(tmp_path, version, intrinsics))
    np.testing.assert_allclose(pose, GOLDEN, atol=1e-5)
    assert lens == pytest.approx((35, 35, 19, 16))
    assert model.distortion == (0.01, 0.02, 0, 0)
    assert "1 photos are not aligned" in caplog.text
    refused(write_meshroom(tmp_path, version, intrinsics, "fisheye4"), "cameras.sfm", "fisheye4")


CAMERAS = {"v2 phone": {"projection_type": "perspective", "width": WIDTH, "height": HEIGHT, "focal": 0.875, "k1": 0.01,
                        "k2": 0.02}}  # fmt: skip
ROTATION = [-2.870982, -0.067303, 0.769277]


@pytest.mark.parametrize("folder", ["", "opensfm"])
def test_opensfm(tmp_path, folder, caplog):
    photo(tmp_path / "images" / "a.jpg")
    shot = {"rotation": ROTATION, "translation": [0.133975, 1.089620, 2.458613], "camera": "v2 phone"}
    part = {"cameras": CAMERAS, "shots": {"a.jpg": shot}, "points": {"0": {"coordinates": [1, 2, 3]}}}
    (tmp_path / folder).mkdir(exist_ok=True)
    path = tmp_path / folder / "reconstruction.json"
    path.write_text(json.dumps([{"cameras": {}, "shots": {}}, part]))
    pose, lens, model = only(tmp_path)
    np.testing.assert_allclose(pose, GOLDEN, atol=1e-5)
    assert lens == (35, 35, 20, 15)
    assert model.distortion == (0.01, 0.02, 0, 0)
    assert read_source(tmp_path).points.tolist() == [[1, 2, 3]]
    assert "2 parts" in caplog.text
    part["cameras"] = {"v2 phone": CAMERAS["v2 phone"] | {"projection_type": "spherical"}}
    path.write_text(json.dumps([part]))
    refused(tmp_path, "reconstruction.json", "spherical")


def test_opendronemap(tmp_path):
    photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "odm_report").mkdir()
    brown = {
        "projection_type": "brown",
        "focal_x": 0.875,
        "focal_y": 0.9,
        "c_x": -0.025,
        "c_y": 0.0125,
        "p1": 0.003,
    }
    (tmp_path / "cameras.json").write_text(json.dumps({"phone": {"width": WIDTH, "height": HEIGHT, **brown}}))
    values = {"filename": "a.jpg", "rotation": ROTATION, "translation": [1, 1.5, 2], "camera": "v2 phone"}
    (tmp_path / "odm_report" / "shots.geojson").write_text(json.dumps({"features": [{"properties": values}]}))
    pose, lens, model = only(tmp_path)
    np.testing.assert_allclose(pose, GOLDEN, atol=1e-5)
    assert lens == pytest.approx((35, 36, 19, 15.5))
    assert model.distortion == (0, 0, 0.003, 0)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("scan.psx", "Export Cameras"),
        ("scan.rsproj", "CSV"),
        ("model.nvm", "COLMAP"),
        ("database.db", "mapper"),
    ],
)
def test_other_projects_are_refused_with_the_way_to_convert(tmp_path, name, way):
    (tmp_path / name).write_bytes(b"x")
    refused(tmp_path, name, way)
