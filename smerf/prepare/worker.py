"""The one file that calls pycolmap: ``python -m smerf.prepare.worker`` does one job and ends.

A job is one line of JSON on standard input: ``{"call": NAME, ...arguments}``. It runs in a process of its own,
because native code cannot be interrupted and prints to standard error as it likes. The process ends when its
standard input closes, so it does not outlive the one that started it.

Models are handed over as ``model.npz`` beside COLMAP's own files (see ``smerf.prepare.model``).
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

_RELAXED = {"init_min_num_inliers": 50, "abs_pose_min_num_inliers": 15, "abs_pose_min_inlier_ratio": 0.15,
            "init_min_tri_angle": 8.0}  # fmt: skip
_MIN_LENS_PHOTOS = 20
_MAX_ASPECT, _MAX_DISTORTION = 0.01, 0.5
_MAX_ERROR, _MIN_VIEWS = 2.0, 3


def extract(
    database: str,
    images: str,
    groups: list[dict[str, Any]],
    max_side: int,
    features: int,
    first_octave: int,
    masks: str | None,
    threads: int,
) -> None:
    """Extract SIFT features, one camera a group; photos that the database holds already are skipped."""
    import pycolmap as pc

    options = pc.FeatureExtractionOptions()
    options.num_threads = threads
    options.max_image_size = max_side
    options.sift.max_num_features = features
    options.sift.first_octave = first_octave
    for group in groups:
        known = _cameras_of(database, group["names"])
        names = [name for name in group["names"] if name not in known]
        if not names:
            continue
        reader = pc.ImageReaderOptions()
        reader.camera_model = "SIMPLE_RADIAL"
        if masks is not None:
            reader.mask_path = masks
        if known:  # a second call would make a second camera
            reader.existing_camera_id = next(iter(known.values()))
        elif group["focal"] is not None:
            width, height = group["size"]
            reader.camera_params = f"{group['focal']!r},{width / 2!r},{height / 2!r},0"
        pc.extract_features(
            database,
            images,
            image_names=names,
            camera_mode=pc.CameraMode.SINGLE,
            reader_options=reader,
            extraction_options=options,
        )
        if group["focal"] is not None:
            _trust_focal(database, names[0])


def match(database: str, pairs: str, threads: int, seed: int) -> None:
    """Match and verify the pairs of a text file; pairs that the database holds already are skipped."""
    import pycolmap as pc

    options = pc.FeatureMatchingOptions()
    options.num_threads = threads
    verification = pc.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    pairing = pc.ImportedPairingOptions()
    pairing.match_list_path = pairs
    pc.match_image_pairs(
        database, matching_options=options, pairing_options=pairing, verification_options=verification
    )


def map_incremental(
    database: str, images: str, output: str, threads: int, seed: int, relaxed: bool = False
) -> None:
    """Run the incremental mapper; ``output/registered`` counts its photos on the way."""
    import pycolmap as pc

    options = pc.IncrementalPipelineOptions()
    options.num_threads = options.mapper.num_threads = threads
    options.min_model_size = 5
    options.extract_colors = False
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    for name, value in _RELAXED.items() if relaxed else ():
        setattr(options.mapper, name, value)
    count = 2
    counter = Path(output) / "registered"

    def registered() -> None:
        nonlocal count
        count += 1
        counter.write_text(str(count))

    _hand_over(
        pc.incremental_mapping(database, images, output, options, next_image_callback=registered),
        Path(output),
    )


def map_global(database: str, images: str, output: str, threads: int, seed: int) -> None:
    """Run the global mapper."""
    import pycolmap as pc

    options = pc.GlobalPipelineOptions()
    options.num_threads = options.mapper.num_threads = threads
    options.random_seed = options.mapper.random_seed = seed
    _hand_over(pc.global_mapping(database, images, output, options), Path(output))


def finish(model: str, output: str, names: list[str], threads: int) -> None:
    """Keep the named photos of a model, refine the intrinsics, drop weak points and write it.

    Cameras of at least 20 photos become OPENCV and are adjusted; where the result is implausible, the model
    stays SIMPLE_RADIAL.
    """
    import pycolmap as pc

    rec = pc.Reconstruction(model)
    kept = set(names)
    for image_id in list(rec.reg_image_ids()):
        image = rec.images[image_id]
        if image.name not in kept:
            rec.deregister_frame(image.frame_id)
    refined = _refined(rec)
    rec = refined if refined is not None else rec
    rec.update_point_3d_errors()
    weak = [
        key
        for key, point in rec.points3D.items()
        if point.error > _MAX_ERROR or point.track.length() < _MIN_VIEWS
    ]
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    for key in weak:
        rec.delete_point3D(key)
    rec.write(output)
    _dump(rec, folder / "model.npz")


def undistort(images: str, model: str, output: str) -> None:
    """Write images without distortion and their model, for other tools."""
    import pycolmap as pc

    pc.undistort_images(output, model, images)


def _refined(rec: Any) -> Any | None:
    import pycolmap as pc

    used: dict[int, int] = {}
    for image_id in rec.reg_image_ids():
        camera = rec.images[image_id].camera_id
        used[camera] = used.get(camera, 0) + 1
    chosen = [camera for camera, count in used.items() if count >= _MIN_LENS_PHOTOS]
    if not chosen:
        return None
    trial = pc.Reconstruction(rec)
    for key in chosen:
        camera = trial.cameras[key]
        focal, cx, cy, k1 = camera.params
        camera.model = pc.CameraModelId.OPENCV
        camera.params = [focal, focal, cx, cy, k1, 0.0, 0.0, 0.0]
    options = pc.BundleAdjustmentOptions()
    options.refine_principal_point = False
    pc.bundle_adjustment(trial, options)
    for key in chosen:
        fx, fy, _, _, k1, k2, _, _ = trial.cameras[key].params
        if abs(fx / fy - 1) > _MAX_ASPECT or max(abs(k1), abs(k2)) > _MAX_DISTORTION:
            return None
    return trial


def _hand_over(models: dict[int, Any], output: Path) -> None:
    for index, rec in models.items():
        folder = output / str(index)
        folder.mkdir(exist_ok=True)
        rec.write(str(folder))
        _dump(rec, folder / "model.npz")


def _dump(rec: Any, path: Path) -> None:
    """Write the arrays of ``smerf.prepare.model.Model``."""
    images = sorted((rec.images[key] for key in rec.reg_image_ids()), key=lambda image: image.name)
    keys = sorted(rec.points3D.keys())
    index_of = {key: index for index, key in enumerate(keys)}
    seen_point, seen_image, seen_xy = [], [], []
    for index, image in enumerate(images):
        for point in image.get_observation_points2D():
            seen_image.append(index)
            seen_point.append(index_of[point.point3D_id])
            seen_xy.append(point.xy)
    cameras = {
        str(key): {
            "model": camera.model.name,
            "width": camera.width,
            "height": camera.height,
            "params": [float(value) for value in camera.params],
        }
        for key, camera in rec.cameras.items()
    }
    np.savez(
        path,
        names=np.array([image.name for image in images]),
        poses=np.array([image.cam_from_world().inverse().matrix() for image in images]).reshape(-1, 3, 4),
        camera_of=np.array([image.camera_id for image in images], np.int64),
        cameras=np.array(json.dumps(cameras)),
        points=np.array([rec.points3D[key].xyz for key in keys]).reshape(-1, 3),
        errors=np.array([rec.points3D[key].error for key in keys], np.float64),
        seen_image=np.array(seen_image, np.int64),
        seen_point=np.array(seen_point, np.int64),
        seen_xy=np.array(seen_xy, np.float64).reshape(-1, 2),
    )


def _cameras_of(database: str, names: Sequence[str]) -> dict[str, int]:
    """Return name -> camera id of those photos that the database holds with their features."""
    if not Path(database).is_file():
        return {}
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT name, camera_id FROM images WHERE image_id IN (SELECT image_id FROM keypoints)"
        ).fetchall()
    known = dict(rows)
    return {name: int(known[name]) for name in names if name in known}


def _trust_focal(database: str, name: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE cameras SET prior_focal_length = 1 "
            "WHERE camera_id = (SELECT camera_id FROM images WHERE name = ?)",
            (name,),
        )


_CALLS: dict[str, Callable[..., None]] = {
    "extract": extract,
    "finish": finish,
    "map_global": map_global,
    "map_incremental": map_incremental,
    "match": match,
    "undistort": undistort,
}


def main() -> None:
    """Do the job on standard input."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _CALLS[job.pop("call")](**job)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
