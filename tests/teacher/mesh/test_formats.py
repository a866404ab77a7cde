import json

import numpy as np
import pytest
import trimesh

from smerf.errors import InvalidDataError
from smerf.teacher.asset import is_asset, open_asset
from smerf.teacher.mesh.formats import mesh_kind, read_mesh
from tests.helpers import mesh_files as files


def write(folder, name, data):
    (folder / name).write_bytes(data)
    return folder / name


def colours_of(path, points):
    """Return the colours (N, 3) that rays along -z meet at points (N, 2) of a square of half edge 1."""
    asset = open_asset(path)
    scene = asset._scene
    origins = scene.centre + np.concatenate([points, np.full((len(points), 1), 3.0)], 1)
    origins = (origins - scene.centre) / scene.radius
    down = np.tile([0.0, 0.0, -1.0], (len(points), 1))
    hits = scene.look(origins, down, np.full(len(points), 1e-4), 0.01)
    return hits.colour, hits.weights.sum(1)


QUARTERS = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])
WANTED = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])


def test_a_textured_square_shows_its_texels_as_they_lie(tmp_path):
    for path in (write(tmp_path, "quad.glb", files.quad_glb()), files.quad_obj(tmp_path)):
        colour, opacity = colours_of(path, QUARTERS)
        np.testing.assert_allclose(colour, WANTED, atol=1e-6)
        np.testing.assert_allclose(opacity, 1.0)


def test_a_gltf_may_have_its_parts_beside_it(tmp_path):
    arrays = {
        "POSITION": files.CORNERS,
        "TEXCOORD_0": files.UV,
        "indices": files.FACES.ravel().astype(np.uint8),
    }
    document, binary = files.gltf_parts(arrays, files.png(files.texels()))
    document["buffers"][0]["uri"] = "my%20data.bin"
    (tmp_path / "my data.bin").write_bytes(binary)
    path = write(tmp_path, "quad.gltf", json.dumps(document).encode())
    np.testing.assert_allclose(colours_of(path, QUARTERS)[0], WANTED, atol=1e-6)
    document["buffers"][0]["uri"] = "../my data.bin"
    with pytest.raises(InvalidDataError, match="outside its folder"):
        read_mesh(write(tmp_path, "quad.gltf", json.dumps(document).encode()))


def test_factors_of_gltf_are_linear_light(tmp_path):
    paint = {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1.0, 0.0, 1.0]}}
    arrays = {"POSITION": files.CORNERS, "indices": files.FACES.ravel().astype(np.uint16)}
    arrays["COLOR_0"] = np.full((4, 4), 128, np.uint8)
    path = write(tmp_path, "quad.glb", files.glb(*files.gltf_parts(arrays, materials=[paint])))
    colour, _ = colours_of(path, QUARTERS[:1])
    # 0.251 and 0.502 in linear light.
    np.testing.assert_allclose(colour[0], [0.5378, 0.7366, 0.0], atol=1e-3)


def test_textures_repeat_mirror_or_end_and_may_be_moved(tmp_path):
    wide = np.array([[-0.5, 0.5], [0.5, 0.5]])
    seen = {}
    for name, wrap in (("repeat", 10497), ("mirror", 33648), ("clamp", 33071)):
        document, binary = files.gltf_parts(
            {
                "POSITION": files.CORNERS,
                "TEXCOORD_0": files.UV,
                "indices": files.FACES.ravel().astype(np.uint16),
            },
            files.png(files.texels()),
        )
        document["samplers"] = [{"magFilter": 9728, "wrapS": wrap}]
        texture = document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]
        # One texture width to the right.
        texture["extensions"] = {"KHR_texture_transform": {"offset": [1.0, 0.0]}}
        seen[name] = (
            colours_of(write(tmp_path, f"{name}.glb", files.glb(document, binary)), wide)[0].round(3).tolist()
        )
    red, blue = [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]
    assert seen == {"repeat": [red, blue], "mirror": [blue, red], "clamp": [blue, blue]}


@pytest.mark.parametrize(
    ("mode", "alpha", "wanted"),
    [("MASK", 100, 0.0), ("MASK", 200, 1.0), ("BLEND", 51, 0.2), ("OPAQUE", 0, 1.0)],
)
def test_alpha_cuts_out_or_mixes(tmp_path, mode, alpha, wanted):
    material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}, "alphaMode": mode}
    path = write(tmp_path, "quad.glb", files.quad_glb(files.texels(alpha), materials=[material]))
    _, opacity = colours_of(path, QUARTERS)
    np.testing.assert_allclose(opacity, wanted, atol=1e-6)
    assert open_asset(path).facts()["transparent"] == (mode != "OPAQUE")


def test_nodes_place_and_mirror_their_meshes(tmp_path):
    nodes = [
        {"children": [1], "translation": [10, 0, 0]},
        {"mesh": 0, "scale": [-1, 1, 1], "rotation": [0, 0, 1, 0]},
    ]
    surface = read_mesh(write(tmp_path, "quad.glb", files.quad_glb(nodes=nodes, scenes=[{"nodes": [0]}])))
    np.testing.assert_allclose(surface.vertices[0], [9.0, 1.0, 0.0], atol=1e-6)
    a, b, c = surface.corners()
    # A mirror turns faces round; their corners are turned back.
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()


def test_vertex_and_face_colours_are_shown_as_they_are(tmp_path):
    ball = files.sphere()
    surface = read_mesh(write(tmp_path, "ball.ply", files.coloured_ply(ball)))
    assert surface.kind == "PLY" and surface.up == (0.0, 0.0, 1.0) and surface.has_colour
    np.testing.assert_allclose(
        surface.colours[:, :3], files.place_colours(surface.vertices) / 255.0, atol=2 / 255
    )
    box = trimesh.creation.box()
    box.visual = trimesh.visual.ColorVisuals(box, face_colors=np.tile([255, 128, 0, 255], (12, 1)))
    faces = read_mesh(write(tmp_path, "box.off", files.exported(box, "off")))
    assert len(faces.faces) == 12


def test_meshes_without_colours_are_grey_and_lit(tmp_path):
    path = write(tmp_path, "part.stl", files.exported(trimesh.creation.box(), "stl"))
    asset = open_asset(path)
    assert asset.is_lit and asset.facts()["triangles"] == 12 and asset.facts()["light"] != "none"
    top, side = (
        asset._scene.look(np.array([o]), np.array([d]), np.array([1e-3]), 0.01).colour[0, 0]
        for o, d in (((0.0, 0, 3), (0.0, 0, -1)), ((3.0, 0, 0), (-1.0, 0, 0)))
    )
    assert 0.3 < side < top <= 0.7


QUAD_OBJ = """v 0 0 0{0}
v 1 0 0{0}
v 1 1 0{0}
vt 0 0
vt 1 0
vt 1 1
f 1/1 2/2 3/3
"""


def test_texture_coordinates_without_a_texture_are_no_colour(tmp_path):
    bare = open_asset(write(tmp_path, "bare.obj", QUAD_OBJ.format("").encode()))
    assert bare.is_lit and not bare.surface.has_colour and bare.facts()["textures"] == []
    red = read_mesh(write(tmp_path, "red.obj", QUAD_OBJ.format(" 1 0 0").encode()))
    assert red.has_colour and red.materials[0].texture is None
    np.testing.assert_allclose(red.colours[:, :3], [[1, 0, 0]] * 3, atol=1 / 255)


def test_a_texture_that_is_not_there_is_told(tmp_path, caplog):
    (tmp_path / "m.mtl").write_text("newmtl a\nKd 0 0 1\nmap_Kd gone.png\n")
    text = "mtllib m.mtl\nusemtl a\n" + QUAD_OBJ.format("")
    surface = read_mesh(write(tmp_path, "quad.obj", text.encode()))
    assert "gone.png" in caplog.text
    np.testing.assert_allclose(surface.materials[0].factor[:3], [0, 0, 1])


@pytest.mark.parametrize("kind", files.FORMATS)
def test_formats_are_known_by_their_content(tmp_path, kind):
    name, writer = files.FORMATS[kind]
    path = write(tmp_path, name, writer())
    assert is_asset(path) and mesh_kind(path) == kind.removeprefix("ASCII ")
    if kind != "OBJ":
        assert mesh_kind(write(tmp_path, "scene", writer())) == kind.removeprefix("ASCII ")


def faults():
    arrays = {"POSITION": files.CORNERS, "indices": files.FACES.ravel().astype(np.uint16)}
    document, binary = files.gltf_parts(arrays)
    points = {"meshes": [{"primitives": [{"mode": 0, "attributes": {"POSITION": 0}}]}]}
    packed = {"extensionsRequired": ["KHR_draco_mesh_compression"]}
    loop = {"nodes": [{"mesh": 0, "children": [0]}], "scenes": [{"nodes": [0]}]}
    outside = {**arrays, "indices": np.array([0, 1, 9], np.uint16)}
    flat = {**arrays, "POSITION": np.zeros((4, 3), np.float32)}
    nothing = {**arrays, "POSITION": np.full((4, 3), np.nan, np.float32)}
    return {
        "points": ("a.glb", files.glb(document | points, binary), "holds no triangles"),
        "loop": ("a.glb", files.glb(document | loop, binary), "no tree"),
        "draco": ("a.glb", files.glb(document | packed, binary), "compressed"),
        "short": ("a.glb", files.glb(document, binary[:20]), "holds fewer"),
        "corner": ("a.glb", files.glb(*files.gltf_parts(outside)), "number 9 of 4"),
        "flat": ("a.glb", files.glb(*files.gltf_parts(flat)), "no area"),
        "nan": ("a.glb", files.glb(*files.gltf_parts(nothing)), "not numbers"),
        "image": ("a.glb", files.quad_glb(images=[{"uri": "data:image/png;base64,AAAA"}]), "texture can't be read"),
        "obj": ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 7\n", "damaged|not there"),
        "obj points": ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no triangles|damaged"),
        "stl": ("a.stl", b"\0" * 84, "no triangles|damaged"),
        "text": ("a.txt", b"hello, this is no mesh", "neither splats"),
    }  # fmt: skip


@pytest.mark.parametrize("fault", faults())
def test_faults_name_the_file_and_what_is_wrong(tmp_path, fault):
    name, data, message = faults()[fault]
    path = write(tmp_path, name, data)
    with pytest.raises(InvalidDataError, match=message) as caught:
        open_asset(path)
    assert name in str(caught.value) and caught.value.exit_code == 4
