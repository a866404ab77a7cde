"""Writers of small mesh files, for tests of the readers."""

import io
import json
import struct

import numpy as np
import trimesh
from PIL import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
# Two by two texels: the left column red, bottom right green, top right blue.
QUAD = np.array([["red", "blue"], ["red", "green"]])
CORNERS = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
# glTF's v points downwards.
UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
FACES = np.array([[0, 1, 2], [0, 2, 3]])


def texels(alpha=255):
    rows = [[(*COLOURS[name], alpha) for name in row] for row in QUAD]
    return np.array(rows, np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def gltf_parts(arrays, image=None, **changes):
    """Return the document and the binary of one primitive; ``changes`` are merged into the document by key."""
    binary, views, accessors, attributes = b"", [], [], {}

    def view(data):
        nonlocal binary
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        binary += data + b"\0" * (-len(data) % 4)
        return len(views) - 1

    kinds = {"f": 5126, "B": 5121, "H": 5123, "I": 5125}
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        width = array.shape[1] if array.ndim > 1 else 1
        accessor = {"componentType": kinds[array.dtype.char], "count": len(array)}
        accessor |= {
            "type": {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}[width],
            "bufferView": view(array.tobytes()),
        }
        if array.dtype.kind == "u" and name != "indices":
            accessor["normalized"] = True
        attributes[name] = len(accessors)
        accessors.append(accessor)
    primitive = {"indices": attributes.pop("indices"), "attributes": attributes}
    document = {
        "asset": {"version": "2.0", "generator": "tests", "copyright": "CC0"},
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
    }
    if image is not None:
        document |= {
            "images": [{"bufferView": view(image), "mimeType": "image/png"}],
            "textures": [{"source": 0, "sampler": 0}],
            "samplers": [{"magFilter": 9728}],
            "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        }
        primitive["material"] = 0
    document |= {"buffers": [{"byteLength": len(binary)}]} | changes
    if "materials" in changes:
        primitive["material"] = 0
    return document, binary


def glb(document, binary):
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text
    body += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def quad_glb(pixels=None, **changes):
    arrays = {"POSITION": CORNERS, "TEXCOORD_0": UV, "indices": FACES.ravel().astype(np.uint16)}
    return glb(*gltf_parts(arrays, png(texels() if pixels is None else pixels), **changes))


def quad_obj(folder):
    (folder / "quad.png").write_bytes(png(texels()))
    (folder / "quad.mtl").write_text("newmtl paint\nmap_Kd quad.png\n")
    lines = ["mtllib quad.mtl", "usemtl paint"]
    lines += [f"v {x} {y} {z}" for x, y, z in CORNERS]
    # v points upwards in OBJ.
    lines += [f"vt {u} {1 - v}" for u, v in UV]
    lines += [f"f {a + 1}/{a + 1} {b + 1}/{b + 1} {c + 1}/{c + 1}" for a, b, c in FACES]
    (folder / "quad.obj").write_text("\n".join(lines) + "\n")
    return folder / "quad.obj"


def sphere(radius=0.5, subdivisions=3):
    return trimesh.creation.icosphere(subdivisions, radius)


def place_colours(points):
    return (np.clip(0.5 + 0.9 * points, 0, 1) * 255).astype(np.uint8)


def coloured_ply(mesh, ascii_form=False):
    mesh = mesh.copy()
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=place_colours(mesh.vertices))
    data = mesh.export(file_type="ply", encoding="ascii" if ascii_form else "binary")
    return data.encode() if isinstance(data, str) else data


def exported(mesh, kind):
    data = mesh.export(file_type=kind)
    return data.encode() if isinstance(data, str) else data


FORMATS = {
    "glTF": ("scene.glb", quad_glb),
    "OBJ": ("scene.obj", lambda: exported(sphere(subdivisions=1), "obj")),
    "PLY": ("scene.ply", lambda: coloured_ply(sphere(subdivisions=1))),
    "ASCII PLY": ("scene.ply", lambda: coloured_ply(sphere(subdivisions=1), True)),
    "STL": ("scene.stl", lambda: exported(sphere(subdivisions=1), "stl")),
    "ASCII STL": ("scene.stl", lambda: exported(sphere(subdivisions=1), "stl_ascii")),
    "OFF": ("scene.off", lambda: exported(sphere(subdivisions=1), "off")),
}
