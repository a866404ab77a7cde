"""Measuring a run: what is in metrics.json and the report, against the schema, with photos that have faults."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import smerf.pipeline.renderers
from smerf.capture import load_capture, load_composited, pixel_rays
from smerf.capture.types import Camera, Intrinsics
from smerf.engine.folder import RunFolder
from smerf.errors import InvalidDataError
from smerf.pipeline import diagnose
from smerf.pipeline.config import make_config
from smerf.pipeline.evaluate import evaluate, view_files
from smerf.pipeline.job import start_run

SIZE, FOCAL, COUNT = (64, 48), 60.0, 24
SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "metrics.schema.json"


def look_at(index):
    """Return the camera-to-world matrix of a photo on a circle about the origin."""
    angle = 2 * np.pi * index / COUNT
    back = np.array([np.cos(angle), np.sin(angle), 0.4])
    eye, back = 2.0 * back, back / np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.column_stack([right, np.cross(back, right), back, eye])
    return pose


def hits(camera):
    """Return where the rays meet a large ball about the origin from inside, (H W, 3), and the distances."""
    origins, directions, _ = (a.astype(np.float64) for a in pixel_rays(camera))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    b = (origins * directions).sum(-1)
    distance = -b + np.sqrt(b * b - (origins**2).sum(-1) + 16.0)
    return origins + distance[:, None] * directions, distance


def shade(camera):
    """Render waves of many lengths on that ball."""
    points = hits(camera)[0]
    waves = np.sin(points @ [[2.1, 0.7, 1.3], [0.4, 2.7, 0.9], [1.9, 1.1, 2.3]]) + 0.5 * np.sin(
        points[:, ::-1] * 9.0
    )
    size = camera.intrinsics
    return (0.5 + 0.2 * waves).clip(0, 1).reshape(size.height, size.width, 3).astype(np.float32)


def darken(image, stops):
    linear = (np.asarray(image, np.float64) / 255.0) ** 2.2 * 2.0**stops
    return Image.fromarray(np.rint(255.0 * linear.clip(0, 1) ** (1 / 2.2)).astype(np.uint8))


def write_capture(folder, *, blurred=(), dark=(), moved=(), masked=(), names=None):
    """Write photos of the ball: every sixth is held out, the others train."""
    names = names or [f"{i:02d}.png" for i in range(COUNT)]
    (folder / "masks").mkdir(parents=True)
    frames = []
    for i, name in enumerate(names):
        camera = Camera(Intrinsics("PINHOLE", *SIZE, FOCAL, FOCAL, 32.0, 24.0), look_at(i)[:3])
        image = Image.fromarray(np.rint(255 * shade(camera)).astype(np.uint8))
        if i in blurred:
            image = image.filter(ImageFilter.GaussianBlur(2))
        image = darken(image, -0.8) if i in dark else image
        image.save(folder / name)
        frame = {"file_path": name, "transform_matrix": look_at(i + 5 if i in moved else i).tolist()}
        if masked:
            Image.new("L", SIZE, 0 if i in masked else 255).save(folder / "masks" / f"{i}.png")
            frame["mask_path"] = f"masks/{i}.png"
        frames.append(frame)
    document = {
        "w": SIZE[0],
        "h": SIZE[1],
        "fl_x": FOCAL,
        "fl_y": FOCAL,
        "cx": 32.0,
        "cy": 24.0,
        "frames": frames,
    }
    document["test_filenames"] = names[::6]
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Return a function that measures a run whose stage ``teacher`` renders the ball."""

    def run(**faults):
        data = write_capture(tmp_path / "data", **faults)
        folder = RunFolder(tmp_path / "run")
        similarity = load_capture(data).training_from_source

        def to_source(camera):
            pose = camera.world_from_cam
            rotation = similarity.rotation.T
            centre = rotation @ (pose[:, 3] - similarity.translation) / similarity.scale
            return Camera(camera.intrinsics, np.column_stack([rotation @ pose[:, :3], centre]))

        def surfaces(job):
            def find(camera):
                points, distance = hits(to_source(camera))
                moved = similarity.scale * points @ similarity.rotation.T + similarity.translation
                return moved, similarity.scale * distance, np.ones(len(points), bool)

            return find

        monkeypatch.setattr(
            smerf.pipeline.renderers,
            "stage_renderer",
            lambda *given, **named: lambda camera: shade(to_source(camera)),
        )
        monkeypatch.setattr(diagnose, "_Surfaces", surfaces)
        with folder:
            job = start_run(folder, data, make_config("tiny"), "cpu", quiet=True)
            folder.begin("teacher", "key")
            folder.finish("teacher", "key", 1.0)
            evaluate(job)
        return json.loads(folder.metrics.read_text()), folder

    return run


def faults(metrics):
    return {f["kind"]: f["photos"] for f in metrics["diagnosis"]["findings"] if f["level"] == "fault"}


def test_a_good_capture_has_no_fault_and_metrics_follow_the_schema(measure):
    jsonschema = pytest.importorskip(
        "jsonschema", reason="jsonschema is not installed: pip install -e '.[dev]'"
    )
    metrics, folder = measure()
    assert faults(metrics) == {} and metrics["diagnosis"]["capture"] == "good"
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(metrics)
    assert metrics.keys() <= schema["properties"].keys()
    views = metrics["diagnosis"]["views"]
    assert views.keys() == metrics["per_image"].keys()
    assert all(view["kind"] == "interpolation" and 13 < view["degrees"] < 15 for view in views.values())
    assert metrics["diagnosis"]["verdict"] in folder.report.read_text().replace("&#x27;", "'")


def test_each_of_three_faults_is_named(measure):
    blurred, dark, moved = (1, 4, 7, 10, 13, 16, 19, 22), (2, 8, 14, 17), (11,)
    metrics, folder = measure(blurred=blurred, dark=dark, moved=moved)
    assert faults(metrics) == {
        "blur": [f"{i:02d}.png" for i in blurred],
        "pose": ["11.png"],
        "exposure": [f"{i:02d}.png" for i in dark],
    }
    page = folder.report.read_text()
    for words in ("8 blurred photos", "1 wrong pose", "exposure jumps in 4 photos"):
        assert words in page


def test_a_held_out_photo_that_is_all_masked_does_not_count(measure):
    metrics, folder = measure(masked=(6,))
    assert metrics["num_images"] == 3 and metrics["unused_images"] == ["06.png"]
    assert "06.png" not in metrics["per_image"]
    assert next(iter(metrics["results"])) == "masked_psnr"
    assert "Not measured, as the mask uses no pixel: 06.png" in folder.report.read_text()


def test_masks_that_leave_nothing_are_refused(measure):
    with pytest.raises(InvalidDataError, match="masks of all test photos"):
        measure(masked=(0, 6, 12, 18))


def test_photos_with_alike_names_keep_their_own_images(measure):
    names = [f"({i}).png" if i % 12 else f"[{i}].png" for i in range(COUNT)]
    names[0], names[6] = "[6].png", "(6).png"
    metrics, folder = measure(names=names)
    data = load_capture(folder.path.parent / "data")
    shown = sorted(path.name for path in (folder.path / "report" / "photo").iterdir())
    assert len(shown) == 4 == len(metrics["per_image"])
    files = view_files([frame.name for frame in data.split("test")])
    for frame in data.split("test"):
        image = np.asarray(Image.open(folder.path / "report" / "photo" / f"{files[frame.name]}.jpg")) / 255.0
        assert np.abs(image - load_composited(frame, None)).mean() < 0.02


def test_view_files_differ_where_case_and_suffix_do_not_count():
    names = ["a/b.png", "a/b.jpg", "A_B.png", "a_b-2.png"]
    files = view_files(names)
    assert list(files) == names and files["a/b.png"] == "a_b"
    assert len({file.casefold() for file in files.values()}) == 4
