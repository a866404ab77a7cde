"""Damaged copies of splat and mesh files, opened and rendered: each ends in an error that names the file or in a
picture.

    python -m tests.helpers.damaged_assets [KIND ...] [--mutated 1000] [--truncated 200] [--seed 0]

Half of the mutations are of what lies inside a wrapping (gzip, ZIP, the JSON of a glTF), which its checksum would
otherwise guard.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import logging
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from smerf.errors import InvalidDataError
from smerf.teacher.asset import open_asset
from smerf.teacher.asset_capture import plan_cameras
from smerf.teacher.asset_options import AssetOptions
from tests.helpers import mesh_files, splat_files
from tests.helpers.mutation import flip_bits, mutate_bytes, mutate_json

SECONDS, MEGABYTES = 30, 400
"""What one copy may take, and how far memory may rise above that of the undamaged file."""
SPLATS = {name: (file, lambda w=writer: w(_cloud())) for name, (file, writer) in splat_files.FORMATS.items()}
KINDS = SPLATS | {f"{name} mesh": entry for name, entry in mesh_files.FORMATS.items()}


def _cloud():
    splats = splat_files.random_splats(60)
    splats.log_scales[:] = -1.5
    return splats


def inside(kind: str, data: bytes, rng: np.random.Generator) -> bytes:
    """Damage what a file wraps; the file itself where it wraps nothing."""
    if kind in ("SPZ v2", "SPZ v3"):
        return gzip.compress(mutate_bytes(gzip.decompress(data), rng), 1)
    if kind == "SPZ v4":
        head = bytearray(data)
        for place in rng.integers(4, 64, 2):
            head[place] ^= 1 << rng.integers(8)
        return bytes(head)
    if kind.startswith("SOG"):
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            members = {name: bundle.read(name) for name in bundle.namelist()}
        name = "meta.json" if rng.random() < 0.6 else sorted(members)[rng.integers(len(members))]
        change = mutate_json if name == "meta.json" else mutate_bytes
        members[name] = change(members[name], rng)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as bundle:
            for member, content in members.items():
                bundle.writestr(member, content)
        return buffer.getvalue()
    if kind.startswith("glTF"):
        length = struct.unpack_from("<I", data, 12)[0]
        text = mutate_json(data[20 : 20 + length], rng)
        text += b" " * (-len(text) % 4)
        body = struct.pack("<II", len(text), 0x4E4F534A) + text + data[20 + length :]
        return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body
    return mutate_bytes(data, rng)


def look(path: Path, cameras: str) -> str:
    """Open a file and render it from a camera that is chosen for it; return what came of it.

    Raises:
        AssertionError: If the picture holds what is no number, or the message does not name the file.
    """
    options = AssetOptions(focal=40.0, cameras=cameras)
    try:
        asset = open_asset(path, options)
        asset.facts()
        plan = plan_cameras(asset, options, 2, 16)
        image = asset.render(plan.cameras[0])
    except InvalidDataError as error:
        assert str(path) in str(error) or "place inside" in str(error), str(error)
        return "refused"
    assert image.shape == (16, 16, 4) and np.isfinite(image).all()
    return "picture"


def _too_slow(*_):
    raise TimeoutError(f"took more than {SECONDS} s")


def copies(kind: str, data: bytes, mutated: int, truncated: int, seed: int):
    """Yield damaged copies of a file's bytes."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    for number in range(mutated):
        if number % 2:
            yield inside(kind, data, rng)
        else:
            yield flip_bits(data, rng, 1 + number % 4)
    for _ in range(truncated):
        yield data[: rng.integers(len(data))]


def check(
    kind: str, folder: Path, mutated: int, truncated: int, seed: int = 0, cameras: str = "auto"
) -> tuple[Counter, list[str]]:
    """Look at damaged copies; return what came of them, and what should not have."""
    name, writer = KINDS[kind]
    path, data = folder / name, writer()
    path.write_bytes(data)
    assert look(path, cameras) == "picture"
    before = _peak_megabytes()
    found, wrong = Counter(), []
    old = signal.signal(signal.SIGALRM, _too_slow)
    try:
        for number, copy in enumerate(copies(kind, data, mutated, truncated, seed)):
            path.write_bytes(copy)
            signal.alarm(SECONDS)
            try:
                found[look(path, cameras)] += 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                found["wrong"] += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                wrong.append(
                    f"{kind}, copy {number}: {error!r:.200} at {Path(place.filename).name}:{place.lineno}"
                )
            finally:
                signal.alarm(0)
            if _peak_megabytes() > before + MEGABYTES:
                wrong.append(f"{kind}, copy {number}: memory rose by {_peak_megabytes() - before:.0f} MB")
                before = _peak_megabytes()
    finally:
        signal.signal(signal.SIGALRM, old)
    return found, wrong


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Look at many copies of every kind; return 1 if one of them ended otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--mutated", type=int, default=1000)
    parser.add_argument("--truncated", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("smerf").setLevel(logging.ERROR)
    faults = 0
    for kind in options.kinds or KINDS:
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            found, wrong = check(kind, Path(folder), options.mutated, options.truncated, options.seed)
        print(f"{kind}: {json.dumps(found)}, {time.process_time() - began:.0f} CPU s", flush=True)
        print("".join(f"  {line}\n" for line in wrong), end="", flush=True)
        faults += len(wrong)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
