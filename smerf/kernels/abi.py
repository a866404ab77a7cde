"""The C interface of the native libraries: one table of their functions and structures, which ctypes gets from here.

A signature lists ``name:kind`` for each argument or field. Kinds are ``int``, ``int64``, ``uint32``, ``float``,
``text``, ``tensor`` (the address of a contiguous tensor or array), ``tensor?`` (the same, or null), the name of a
structure, and ``kind*n`` for arrays inside a structure. Only the CUDA library takes ``cuda:tensor``.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

__all__ = [
    "ABI",
    "FUNCTIONS",
    "KERNELS",
    "STRUCTURES",
    "bind",
    "check_interface",
    "convert",
    "record",
    "records",
]

ABI = 6
"""``SMERF_ABI`` of ``cuda/include/smerf/common.h``."""

STRUCTURES = {
    "HashLevel": "offset:int64 resolution:int mask:uint32",
    "FrustumSpec": "first_ray:int64 scale:float points:int is_ball:int is_random:int seed:uint32 padding:int",
    "RaySpacing": "near_t:float far_t:float near_g:float far_g:float linear:int",
    "CacheSampling": "spacing:RaySpacing cache:tensor resolution:int bins:int samples:int scale:float cap:float"
    " mix:float",
    "GridView": "voxels:tensor block_index:tensor planes:tensor voxel_resolution:int plane_resolution:int"
    " centre:float*3 scale:float density_low:float density_high:float feature_low:float feature_high:float",
    "AliveGrid": "centre:float*3 scale:float cells:int seen:float solid:float",
    "AppearanceRays": "features:tensor directions:tensor positions:tensor rays:int64",
    "AppearanceNetworks": "params:tensor lattice:int width:int",
    "VertexList": "voxels:tensor texels:tensor voxel_count:int64 texel_count:int64 blocks:tensor voxel_resolution:int"
    " plane_resolution:int",
    "VertexDecoder": "levels:tensor table:tensor params:tensor dims:tensor level_count:int features:int layers:int"
    " gain:float",
    "MarchScene": "atlas:tensor planes:tensor blocks:tensor distance:tensor occupancy:tensor known:tensor?"
    " object_ids:tensor? object_states:tensor? kernels:tensor?*3 biases:tensor?*3 atlas_x:int atlas_y:int atlas_z:int"
    " texels:int num_blocks:int block_size:int cells:int known_cells:int hidden:int*2 is_gated:int has_coarse:int"
    " is_relu:int is_vfr:int is_exposed:int is_enlarging:int max_steps:int voxel:float sparse_voxel:float step:float"
    " near:float density_low:float density_scale:float feature_low:float feature_scale:float inv_submodel_scale:float"
    " visibility_delay:float log_exposure:float background:float*3 unknown_colours:float*9 spent_count:int"
    " spent:float*8",
    "RadianceWidths": "features:int density:int geometry:int colour:int",
    "TeacherField": "levels:tensor table:tensor half_table:tensor? density_params:tensor colour_params:tensor"
    " level_count:int features:int widths:RadianceWidths spacing:RaySpacing scale:float min_light:float"
    " min_weight:float cache:tensor? cache_resolution:int min_depth:float recheck:float step:uint32",
    "TeacherRays": "origins:tensor directions:tensor radii:tensor s_edges:tensor rays:int64 samples:int",
    "TeacherTarget": "truth:tensor background:tensor distances:tensor? charbonnier:float distortion_weight:float"
    " opacity_weight:float distance_weight:float near_distance:float min_gradient:float",
    "TeacherTrace": "losses:tensor grad_density:tensor grad_colour:tensor points:tensor? feature_gradient:tensor?"
    " counts:tensor cells:tensor? densities:tensor? cache_keep:float",
    "StudentRays": "origins:tensor directions:tensor edges:tensor weights:tensor colour:tensor background:tensor"
    " log_exposure:tensor? s_edges:tensor? rays:int64 samples:int pixels:int",
    "StudentNetwork": "params:tensor gradient:tensor lattice:int width:int lattice_scale:float",
    "StudentLoss": "tau:float step:float charbonnier:float geometry:float min_gradient:float backdrop:tensor?"
    " dssim:float distortion:float",
    "StudentGrids": "voxels:tensor voxel_bytes:tensor blocks:int64 planes:tensor plane_bytes:tensor",
    "AdamStep": "lr:float beta1:float beta2:float eps:float correction1:float correction2:float",
    "StudentTrace": "losses:tensor weights:tensor samples:tensor?",
    "SplatTree": "leaves:tensor nodes:tensor levels:tensor sh:tensor classes:int coefficients:int leaf_count:int"
    " is_antialiased:int is_half:int64 near:float dilation:float sh_rotation:float*9",
    "SplatCamera": "rotation:float*9 eye:float*3 fx:float fy:float cx:float cy:float width:int height:int"
    " is_by_depth:int near:float dilation:float",
    "NearCells": "bits:tensor middles:tensor cells:int words:int",
}
"""Fields of the structures, in the order of the headers."""

_LEVELS = "levels:tensor level_count:int features:int"
_RAYS = "origins:tensor directions:tensor edges:tensor"
_FRUSTUMS = f"frustums:FrustumSpec {_RAYS} radii:tensor rays:int64 samples:int {_LEVELS}"
_GRID_RAYS = f"grids:GridView {_RAYS} rays:int64 samples:int"
_HEAD = (
    "density_dims:tensor density_layers:int density_params:tensor colour_dims:tensor colour_layers:int"
    " colour_params:tensor features:tensor directions:tensor samples:int rows:int64"
)
_VOLUME = "density:tensor edges:tensor colour:tensor? coordinates:tensor? rays:int64 samples:int"
_ADAM = "lr:float beta1:float beta2:float eps:float correction1:float correction2:float"
_SPARSE_ADAM = (
    f"values:tensor gradient:tensor moment1:tensor moment2:tensor records:int64 width:int {_ADAM} decay:float"
)

KERNELS = {
    "smerf_hash_encode_forward": f"{_LEVELS} table:tensor x:tensor sigma:tensor? count:int64 out:tensor",
    "smerf_hash_encode_backward": f"{_LEVELS} x:tensor sigma:tensor? count:int64 upstream:tensor gradient:tensor",
    "smerf_hash_encode_backward_repeatable": f"{_LEVELS} x:tensor sigma:tensor? count:int64 upstream:tensor"
    " units:tensor gradient:tensor entries:int64",
    "smerf_hash_encode_backward_input": f"{_LEVELS} table:tensor x:tensor sigma:tensor? count:int64 upstream:tensor"
    " gradient:tensor",
    "smerf_ray_points": f"{_RAYS} radii:tensor scale:float rays:int64 samples:int x:tensor sigma:tensor",
    "smerf_multisample_forward": f"{_FRUSTUMS} table:tensor level_scales:tensor? out:tensor",
    "smerf_multisample_backward": f"{_FRUSTUMS} upstream:tensor stride:int gradient:tensor",
    "smerf_encode_directions_forward": "kind:int directions:tensor count:int64 out:tensor",
    "smerf_encode_directions_backward": "kind:int directions:tensor count:int64 upstream:tensor gradient:tensor",
    "smerf_mlp_forward": "dims:tensor layers:int params:tensor x:tensor rows:int64 out:tensor",
    "smerf_mlp_backward": "dims:tensor layers:int params:tensor x:tensor rows:int64 upstream:tensor grad_params:tensor"
    " grad_x:tensor? scratch:cuda:tensor",
    "smerf_radiance_head_forward": f"{_HEAD} density:tensor colour:tensor",
    "smerf_radiance_head_backward": f"{_HEAD} up_density:tensor up_colour:tensor grad_density:tensor"
    " grad_colour:tensor grad_features:tensor scratch:cuda:tensor",
    "smerf_sparse_adam": _SPARSE_ADAM,
    "smerf_sparse_adam_half": f"{_SPARSE_ADAM} half:tensor",
    "smerf_volume_render_forward": f"{_VOLUME} weights:tensor image:tensor",
    "smerf_volume_render_backward": f"{_VOLUME} weights:tensor up_image:tensor up_weights:tensor? grad_density:tensor"
    " grad_colour:tensor?",
    "smerf_importance_sample": "edges:tensor weights:tensor jitter:tensor? mix:float rays:int64 bins:int samples:int"
    " drawn:tensor",
    "smerf_blurred_interlevel": "edges:tensor weights:tensor outer_edges:tensor outer_weights:tensor half_width:float"
    " rays:int64 samples:int bins:int loss:tensor gradient:tensor",
    "smerf_cache_sample": "sampling:CacheSampling origins:tensor directions:tensor shift:tensor? jitter:tensor?"
    " rays:int64 s_edges:tensor",
    "smerf_cache_raise": "cache:tensor resolution:int x:tensor density:tensor count:int64",
    "smerf_teacher_query": "field:TeacherField rays:TeacherRays edges:tensor weights:tensor colours:tensor"
    " scratch:cuda:tensor",
    "smerf_teacher_step": "field:TeacherField rays:TeacherRays target:TeacherTarget trace:TeacherTrace"
    " scratch:cuda:tensor",
    "smerf_teacher_scatter": "field:TeacherField rays:TeacherRays trace:TeacherTrace gradient:tensor cache:tensor?"
    " scratch:cuda:tensor",
    "smerf_grid_render_forward": f"{_GRID_RAYS} tau:float step:float features:tensor weights:tensor",
    "smerf_grid_render_backward": f"{_GRID_RAYS} tau:float step:float up_features:tensor up_weights:tensor"
    " voxel_records:tensor voxel_touched:tensor plane_records:tensor plane_touched:tensor",
    "smerf_grid_mark": f"{_GRID_RAYS} voxel_touched:tensor plane_touched:tensor",
    "smerf_grid_read": "grids:GridView points:tensor count:int64 voxels:tensor planes:tensor alive:tensor",
    "smerf_grid_adam": "records:tensor bytes:tensor touched:tensor vertices:int64 density_range:float"
    f" feature_range:float {_ADAM}",
    "smerf_vertex_decode_forward": "vertices:VertexList decoder:VertexDecoder voxels:tensor planes:tensor",
    "smerf_vertex_decode_backward": "vertices:VertexList decoder:VertexDecoder voxel_records:tensor"
    " plane_records:tensor density_range:float feature_range:float grad_table:tensor grad_params:tensor"
    " scratch:cuda:tensor",
    "smerf_appearance_forward": "rays:AppearanceRays networks:AppearanceNetworks colour:tensor",
    "smerf_appearance_backward": "rays:AppearanceRays networks:AppearanceNetworks up_colour:tensor grad_params:tensor"
    " grad_features:tensor",
    "smerf_student_start": "state:tensor bytes:tensor count:int64",
    "smerf_student_step": "grids:GridView rays:StudentRays network:StudentNetwork loss:StudentLoss state:StudentGrids"
    " adam:AdamStep trace:StudentTrace gradient:cuda:tensor touched:cuda:tensor scratch:cuda:tensor",
    "smerf_splat_rays": "tree:SplatTree spacing:RaySpacing origins:tensor directions:tensor rays:int64 samples:int"
    " min_half:float mix:float edges:tensor weights:tensor colours:tensor offsets:cuda:tensor hits:cuda:tensor"
    " boxes:cuda:tensor",
    "smerf_splat_count": "tree:SplatTree origins:tensor directions:tensor rays:int64 counts:tensor",
    "smerf_splat_image": "tree:SplatTree camera:SplatCamera image:tensor projected:cuda:tensor splats:cuda:tensor"
    " first:cuda:tensor",
    "smerf_splat_project": "tree:SplatTree camera:SplatCamera projected:tensor keys:tensor touched:tensor",
    "smerf_splat_list": "projected:tensor order:tensor starts:tensor count:int64 columns:int tiles:tensor"
    " splats:tensor",
    "smerf_surface_intervals": "grid:NearCells spacing:RaySpacing origins:tensor directions:tensor met:tensor"
    " opacity:tensor rays:int64 layers:int samples:int half_width:float edges:tensor weights:tensor",
    "smerf_mark_alive": "grid:AliveGrid origins:tensor directions:tensor edges:tensor weights:tensor rays:int64"
    " samples:int seen:tensor solid:tensor",
    "smerf_block_samples": "grids:GridView coords:tensor count:int64 out:tensor",
    "smerf_distance_grid": "occupied:tensor nx:int ny:int nz:int limit:int out:tensor work:cuda:tensor",
    "smerf_march": "scene:MarchScene origins:tensor is_shared_origin:int directions:tensor count:int64 width:int"
    " rgb:tensor depth:tensor? objects:tensor?",
    "smerf_sample_assets": "scene:MarchScene points:tensor count:int64 fine:tensor coarse:tensor alive:tensor",
}
"""Arguments of the kernels, all of which return a code: 0, or what went wrong. On CUDA the stream comes last."""

FUNCTIONS = {
    "smerf_abi": ("int", ""),
    "smerf_sizeof": ("int64", "structure:text"),
    "smerf_isa": ("text", ""),
    "smerf_processor_level": ("int", ""),
    "smerf_use_large_pages": ("int", "data:tensor bytes:int64"),
    "smerf_reads_half": ("int", ""),
    "smerf_error": ("text", "code:int"),
    "smerf_device_count": ("int", ""),
    "smerf_mlp_scratch": ("int64", "dims:tensor layers:int colour_dims:tensor colour_layers:int rows:int64"),
    "smerf_teacher_scratch": ("int64", "widths:RadianceWidths rays:int64 samples:int is_training:int"),
    "smerf_student_scratch": ("int64", "rays:int64 samples:int"),
    "smerf_vertex_decode_scratch": ("int64", "dims:tensor layers:int level_count:int features:int"),
}
"""Result and arguments of the functions that answer a question."""

_PLAIN: dict[str, Any] = {
    "int": ctypes.c_int32,
    "int64": ctypes.c_int64,
    "uint32": ctypes.c_uint32,
    "float": ctypes.c_float,
    "text": ctypes.c_char_p,
    "tensor": ctypes.c_void_p,
    "tensor?": ctypes.c_void_p,
}


def _split(signature: str) -> list[tuple[str, str]]:
    """Return (name, kind) of each argument."""
    pairs = (word.partition(":") for word in signature.split())
    return [(name, kind) for name, _, kind in pairs]


def _field_type(kind: str) -> Any:
    plain, _, count = kind.partition("*")
    one = _PLAIN[plain] if plain in _PLAIN else _TYPES[plain]
    return one * int(count) if count else one


_TYPES: dict[str, type[ctypes.Structure]] = {}
for _name, _signature in STRUCTURES.items():
    _fields = [(field, _field_type(kind)) for field, kind in _split(_signature)]
    _TYPES[_name] = type(_name, (ctypes.Structure,), {"_fields_": _fields})


def _address(what: str, value: Any) -> int:
    """Return the address of a tensor, a numpy array or a ctypes array."""
    if isinstance(value, ctypes.Array):
        return ctypes.addressof(value)
    if hasattr(value, "data_ptr"):
        contiguous, address = value.is_contiguous(), value.data_ptr()
    else:
        contiguous, address = value.flags.c_contiguous, value.ctypes.data
    if not contiguous:
        raise ValueError(f"{what}: expected a contiguous tensor, got shape {tuple(value.shape)} in pieces")
    return int(address)


def _field_value(structure: str, name: str, kind: str, value: Any) -> Any:
    what, (plain, _, count) = f"{structure}.{name}", kind.partition("*")
    if count:
        values = [_field_value(structure, name, plain, one) for one in value]
        return _field_type(kind)(*values)
    if kind == "tensor?" and value is None:
        return None
    return _address(what, value) if kind in ("tensor", "tensor?") else value


def record(structure: str, **values: Any) -> ctypes.Structure:
    """Return a structure with all its fields, which keeps the tensors and arrays that it points to alive.

    Raises:
        TypeError: If a field is missing, unknown or of another type.
        ValueError: If a tensor is not contiguous.
    """
    kinds = dict(_split(STRUCTURES[structure]))
    if kinds.keys() != values.keys():
        raise TypeError(f"{structure}: expected the fields {', '.join(kinds)}, got {', '.join(values)}")
    result = _TYPES[structure](
        **{name: _field_value(structure, name, kinds[name], value) for name, value in values.items()}
    )
    result.kept = tuple(values.values())
    return result


def records(structure: str, rows: Sequence[Sequence[Any]]) -> ctypes.Array[Any]:
    """Return an array of structures without pointers, a row of field values each."""
    kind = _TYPES[structure]
    return (kind * len(rows))(*(kind(*row) for row in rows))


def convert(name: str, signature: str, arguments: Sequence[Any], kind: str) -> list[Any]:
    """Return what ctypes passes to a function of the ``cpu`` or ``cuda`` library; the arguments have to outlive it.

    Raises:
        TypeError: If the number of arguments or a structure is not that of the signature.
        ValueError: If a tensor is not contiguous.
    """
    wanted = _split(signature)
    if len(wanted) != len(arguments):
        raise TypeError(f"{name}: expected {len(wanted)} arguments, got {len(arguments)}")
    result: list[Any] = []
    for (argument, what), value in zip(wanted, arguments):
        if what.startswith("cuda:"):
            if kind == "cpu":
                continue
            what = what.removeprefix("cuda:")
        if what in _TYPES:
            if not isinstance(value, _TYPES[what]):
                raise TypeError(f"{name}: {argument}: expected a {what}, got {type(value).__name__}")
            result.append(ctypes.byref(value))
        elif what == "tensor" or (what == "tensor?" and value is not None):
            result.append(_address(f"{name}: {argument}", value))
        else:
            result.append(value)
    return result


def _argument_types(signature: str, kind: str) -> list[Any]:
    kinds = [what for _, what in _split(signature) if kind == "cuda" or not what.startswith("cuda:")]
    kinds = [what.removeprefix("cuda:") for what in kinds]
    return [ctypes.POINTER(_TYPES[what]) if what in _TYPES else _PLAIN[what] for what in kinds]


def bind(library: ctypes.CDLL, kind: str) -> None:
    """Give the functions that a ``cpu`` or ``cuda`` library exports their types."""
    for name, (result, signature) in FUNCTIONS.items():
        if hasattr(library, name):
            function = getattr(library, name)
            function.restype, function.argtypes = _PLAIN[result], _argument_types(signature, kind)
    for name, signature in KERNELS.items():
        if hasattr(library, name):
            function = getattr(library, name)
            stream = [ctypes.c_void_p] if kind == "cuda" else []
            function.restype, function.argtypes = ctypes.c_int32, _argument_types(signature, kind) + stream


def check_interface(library: ctypes.CDLL) -> None:
    """Raise OSError if a library has another interface, by its number or by the size of a structure."""
    name, hint = os.path.basename(library._name), "reinstall with `pip install -e .`"
    found = library.smerf_abi()
    if found != ABI:
        raise OSError(f"{name} has interface {found}, expected {ABI}: {hint}")
    for structure, our in _TYPES.items():
        # A library does not know the structures of kernels that it lacks.
        size = library.smerf_sizeof(structure.encode())
        if size and size != ctypes.sizeof(our):
            raise OSError(f"{name}: {structure} has {size} bytes, expected {ctypes.sizeof(our)}: {hint}")
