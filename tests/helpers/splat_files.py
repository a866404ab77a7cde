"""Writers of small splat files in every format, for tests of the readers."""

import gzip
import io
import json
import struct
import zipfile
from dataclasses import dataclass

import numpy as np
from PIL import Image

SH_ZERO = 0.28209479177387814
Y_UP = np.array([1, -1, -1], np.float32)


@dataclass
class Splats:
    means: np.ndarray
    log_scales: np.ndarray
    quaternions: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray


def random_splats(count=300, degree=1, seed=0):
    random = np.random.default_rng(seed)
    quaternions = random.normal(size=(count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    quaternions[quaternions[:, 0] < 0] *= -1
    return Splats(
        random.uniform(-1, 1, (count, 3)).astype(np.float32),
        random.uniform(-5, -2, (count, 3)).astype(np.float32),
        quaternions.astype(np.float32),
        random.uniform(0.1, 0.95, count).astype(np.float32),
        random.uniform(-0.6, 0.6, (count, (degree + 1) ** 2, 3)).astype(np.float32),
    )


def ply_bytes(columns, comments=(), kinds=None, order="<"):
    form = "binary_little_endian" if order == "<" else "binary_big_endian"
    count = len(next(iter(columns.values())))
    kinds = kinds or {}
    names = {"f4": "float", "u1": "uchar", "f8": "double"}
    lines = [
        "ply",
        f"format {form} 1.0",
        *(f"comment {each}" for each in comments),
        f"element vertex {count}",
    ]
    lines += [f"property {names[kinds.get(name, 'f4')]} {name}" for name in columns]
    rows = np.zeros(count, [(name, order + kinds.get(name, "f4")) for name in columns])
    for name, values in columns.items():
        rows[name] = values
    return ("\n".join(lines) + "\nend_header\n").encode() + rows.tobytes()


def ply_columns(splats):
    columns = {axis: splats.means[:, i] for i, axis in enumerate("xyz")}
    columns |= {f"f_dc_{c}": splats.sh[:, 0, c] for c in range(3)}
    rest = splats.sh[:, 1:].transpose(0, 2, 1).reshape(len(splats.means), -1)
    columns |= {f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])}
    columns["opacity"] = np.log(splats.opacities / (1 - splats.opacities))
    columns |= {f"scale_{i}": splats.log_scales[:, i] for i in range(3)}
    return columns | {f"rot_{i}": splats.quaternions[:, i] for i in range(4)}


def ply(splats):
    return ply_bytes(ply_columns(splats))


def _pack(fractions, bits):
    return np.rint(np.clip(fractions, 0, 1) * (2**bits - 1)).astype(np.uint32)


def _smallest_three(quaternions):
    """Return the place of the largest part and the three others of quaternions, the largest made positive."""
    place = np.abs(quaternions).argmax(1)
    signed = quaternions * np.sign(np.take_along_axis(quaternions, place[:, None], 1))
    return place, signed[np.arange(4)[None] != place[:, None]].reshape(-1, 3)


def compressed_ply(splats):
    count, chunks = len(splats.means), -(-len(splats.means) // 256)
    chunk = np.arange(count) // 256
    fields, words = {}, []
    for name, values, labels in (
        ("position", splats.means, "xyz"),
        ("scale", splats.log_scales, ("scale_x", "scale_y", "scale_z")),
        ("colour", 0.5 + SH_ZERO * splats.sh[:, 0], "rgb"),
    ):
        low = np.stack([values[chunk == k].min(0) for k in range(chunks)])
        high = np.stack([values[chunk == k].max(0) for k in range(chunks)])
        for end, bound in (("min", low), ("max", high)):
            fields |= {f"{end}_{label}": bound[:, i] for i, label in enumerate(labels)}
        part = (values - low[chunk]) / (high - low)[chunk]
        if name != "colour":
            words.append(_pack(part[:, 0], 11) << 21 | _pack(part[:, 1], 10) << 11 | _pack(part[:, 2], 11))
    r, g, b = (_pack(part[:, i], 8) for i in range(3))
    place, small = _smallest_three(splats.quaternions)
    small = [_pack(small[:, i] / np.sqrt(2) + 0.5, 10) for i in range(3)]
    rotation = place.astype(np.uint32) << 30 | small[0] << 20 | small[1] << 10 | small[2]
    words = [words[0], rotation, words[1], r << 24 | g << 16 | b << 8 | _pack(splats.opacities, 8)]
    lines = ["ply", "format binary_little_endian 1.0", f"element chunk {chunks}"]
    lines += [f"property float {name}" for name in fields] + [f"element vertex {count}"]
    lines += [f"property uint packed_{name}" for name in ("position", "rotation", "scale", "color")]
    rest = splats.sh[:, 1:].transpose(0, 2, 1).reshape(count, -1)
    if rest.shape[1]:
        lines += [f"element sh {count}", *(f"property uchar f_rest_{i}" for i in range(rest.shape[1]))]
    body = (
        np.stack(list(fields.values()), 1).astype("<f4").tobytes()
        + np.stack(words, 1).astype("<u4").tobytes()
    )
    body += np.clip(np.floor((rest / 8 + 0.5) * 256), 1, 254).astype(np.uint8).tobytes()
    return ("\n".join(lines) + "\nend_header\n").encode() + body


def antimatter(splats):
    rows = np.zeros(len(splats.means), [("m", "<f4", 3), ("s", "<f4", 3), ("c", "u1", 4), ("q", "u1", 4)])
    rows["m"], rows["s"] = splats.means, np.exp(splats.log_scales)
    rows["c"][:, :3] = np.rint(255 * np.clip(0.5 + SH_ZERO * splats.sh[:, 0], 0, 1))
    rows["c"][:, 3] = np.rint(255 * splats.opacities)
    rows["q"] = np.clip(np.rint(splats.quaternions * 128 + 128), 0, 255)
    return rows.tobytes()


def turned(splats):
    """Return the splats on axes right, up, back."""
    y, z, x = -1, -1, 1
    signs = np.array([1, y, z, x, x * y, y * z, 1, x * z, 1, y, x * y * z, y, z, x, z, x], np.float32)
    return Splats(
        splats.means * Y_UP,
        splats.log_scales,
        splats.quaternions * np.array([1, 1, -1, -1], np.float32),
        splats.opacities,
        splats.sh * signs[None, : splats.sh.shape[1], None],
    )


def spz(splats, version=3):
    s, count = turned(splats), len(splats.means)
    whole = np.rint(s.means * 4096).astype("<i4")
    positions = whole.view(np.uint8).reshape(count, 3, 4)[..., :3].tobytes()
    if version < 3:
        rotations = (
            np.rint((s.quaternions[:, 1:] * np.sign(s.quaternions[:, :1]) + 1) * 127.5)
            .astype(np.uint8)
            .tobytes()
        )
    else:
        place, small = _smallest_three(np.roll(s.quaternions, -1, 1))
        field = (
            np.rint(np.abs(small) * np.sqrt(2) * 511).astype(np.uint32) | (small < 0).astype(np.uint32) << 9
        )
        words = place.astype(np.uint32) << 30 | field[:, 0] << 20 | field[:, 1] << 10 | field[:, 2]
        rotations = words.astype("<u4").tobytes()
    arrays = [
        positions,
        np.rint(255 * s.opacities).astype(np.uint8).tobytes(),
        np.rint(255 * np.clip(s.sh[:, 0] * 0.15 + 0.5, 0, 1)).astype(np.uint8).tobytes(),
        np.rint((s.log_scales + 10) * 16).astype(np.uint8).tobytes(),
        rotations,
        np.rint(s.sh[:, 1:] * 128 + 128).astype(np.uint8).tobytes(),
    ]
    degree = int(np.sqrt(s.sh.shape[1])) - 1
    if version < 4:
        return gzip.compress(
            struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, 12, 0, 0) + b"".join(arrays)
        )
    import zstandard

    arrays = [each for each in arrays if each]
    packed = [zstandard.ZstdCompressor().compress(each) for each in arrays]
    head = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, count, degree, 12, 0, len(arrays), 32)
    table = b"".join(struct.pack("<QQ", len(one), len(whole)) for one, whole in zip(packed, arrays))
    return head + table + b"".join(packed)


def _webp(pixels, width=None):
    count = len(pixels)
    width = width or int(np.ceil(np.sqrt(count)))
    image = np.zeros((-(-count // width) * width, 4), np.uint8)
    image[:count] = pixels
    buffer = io.BytesIO()
    Image.fromarray(image.reshape(-1, width, 4)).save(buffer, "WEBP", lossless=True, exact=True)
    return buffer.getvalue()


def sog_members(splats):
    count = len(splats.means)
    logs = np.sign(splats.means) * np.log1p(np.abs(splats.means))
    low, high = logs.min(0), logs.max(0)
    q = np.rint((logs - low) / (high - low) * 65535).astype(np.int64)
    opaque = np.full((count, 1), 255)
    place, small = _smallest_three(splats.quaternions)
    quats = np.concatenate([np.rint((small / np.sqrt(2) + 0.5) * 255), 252 + place[:, None]], 1)
    books = {
        name: np.linspace(*ends, 256)
        for name, ends in (("scales", (-6, -1)), ("sh0", (-2, 2)), ("shN", (-1, 1)))
    }

    def nearest(name, values):
        return np.abs(books[name][:, None] - values.ravel()).argmin(0).reshape(values.shape)

    files = {
        "means_l.webp": _webp(np.concatenate([q % 256, opaque], 1)),
        "means_u.webp": _webp(np.concatenate([q // 256, opaque], 1)),
        "quats.webp": _webp(quats),
        "scales.webp": _webp(np.concatenate([nearest("scales", splats.log_scales), opaque], 1)),
        "sh0.webp": _webp(
            np.concatenate([nearest("sh0", splats.sh[:, 0]), np.rint(255 * splats.opacities)[:, None]], 1)
        ),
    }
    meta = {
        "version": 2,
        "count": count,
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "quats": {"files": ["quats.webp"]},
        "scales": {"codebook": books["scales"].tolist(), "files": ["scales.webp"]},
        "sh0": {"codebook": books["sh0"].tolist(), "files": ["sh0.webp"]},
    }
    each = splats.sh.shape[1] - 1
    if each:
        # Every splat has its own entry of the palette.
        table = np.zeros((-(-count // 64) * 64, each, 4))
        table[:count, :, :3], table[..., 3] = nearest("shN", splats.sh[:, 1:]), 255
        index = np.arange(count)
        labels = np.stack([index % 256, index // 256, 0 * index, 255 + 0 * index], 1)
        files |= {"centroids.webp": _webp(table.reshape(-1, 4), 64 * each), "labels.webp": _webp(labels)}
        meta["shN"] = {"codebook": books["shN"].tolist(), "files": ["centroids.webp", "labels.webp"]}
    return files | {"meta.json": json.dumps(meta).encode()}


def sog(splats):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, data in sog_members(splats).items():
            bundle.writestr(name, data)
    return buffer.getvalue()


def glb(splats):
    s, binary, views, accessors, attributes = turned(splats), b"", [], [], {}
    values = {
        "POSITION": s.means,
        "KHR_gaussian_splatting:ROTATION": np.roll(s.quaternions, -1, 1),
        "KHR_gaussian_splatting:SCALE": np.exp(s.log_scales),
        "KHR_gaussian_splatting:OPACITY": s.opacities[:, None],
    }
    names = [f"SH_DEGREE_{degree}_COEF_{n}" for degree in range(4) for n in range(2 * degree + 1)]
    values |= {f"KHR_gaussian_splatting:{name}": s.sh[:, k] for k, name in enumerate(names[: s.sh.shape[1]])}
    for name, array in values.items():
        attributes[name] = len(accessors)
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": array.size * 4})
        kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[array.shape[1]]
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": 5126, "count": len(array), "type": kind}
        )
        binary += array.astype("<f4").tobytes()
    extension = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    primitive = {"mode": 0, "attributes": attributes, "extensions": {"KHR_gaussian_splatting": extension}}
    document = {
        "asset": {"version": "2.0", "copyright": "CC0"},
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": len(binary)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = (
        struct.pack("<II", len(text), 0x4E4F534A)
        + text
        + struct.pack("<II", len(binary), 0x004E4942)
        + binary
    )
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


FORMATS = {
    "PLY": ("scene.ply", ply),
    "compressed PLY": ("scene.ply", compressed_ply),
    ".splat": ("scene.splat", antimatter),
    "SPZ v2": ("scene.spz", lambda splats: spz(splats, 2)),
    "SPZ v3": ("scene.spz", spz),
    "SPZ v4": ("scene.spz", lambda splats: spz(splats, 4)),
    "SOG v2": ("scene.sog", sog),
    "glTF KHR_gaussian_splatting": ("scene.glb", glb),
}
