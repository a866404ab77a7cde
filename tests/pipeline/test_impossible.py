"""Values that no setting can have: refused with the key, by the command line (2) and in a config.yaml (4)."""

import pytest
import yaml

from smerf.engine.settings import from_dict, to_dict
from smerf.errors import InvalidDataError, UsageError
from smerf.pipeline.config import RunConfig, make_config

COMMON = {
    "steps": (0, -5, 1.5, True, "many", 10**400, None, [1]),
    "rays": (0, -1, float("nan"), "all"),
    "seed": (0.5, "x", 2**63, -(2**70)),
    "checkpoint_seconds": (-1.0, float("nan"), float("inf"), "soon"),
}
IMPOSSIBLE = [
    ("max_side", -1),
    ("max_side", 0),
    ("max_side", "wide"),
    ("max_side", 10**30),
    ("preset", "fast"),
    ("teacher", 3),
    ("student", [1]),
    ("bake", "yes"),
    *(
        (f"{stage}.{key}", value)
        for stage in ("teacher", "student")
        for key in COMMON
        for value in COMMON[key]
    ),
    ("teacher.samples", 0),
    ("teacher.table_lr", -1.0),
    ("teacher.table_lr", float("nan")),
    ("teacher.network_lr", "quick"),
    ("teacher.final_lr", -0.1),
    ("teacher.background", "pink"),
    ("teacher.multisamples", 2),
    ("student.partition", 0),
    ("student.voxel_resolution", -64),
    ("student.plane_resolution", 0),
    ("student.pool", -1),
    ("bake.max_mb", -1.0),
    ("bake.max_mb", float("nan")),
    ("bake.max_mb", 0.0),
    ("bake.array_format", "jpeg"),
    ("bake.dilation", -1),
]


@pytest.mark.parametrize(("key", "value"), IMPOSSIBLE, ids=lambda value: str(value)[:24])
def test_an_impossible_value_is_refused_by_its_key(key, value):
    values = to_dict(make_config("tiny"))
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    assert last in place, f"{key} is no setting any more"
    place[last] = value
    with pytest.raises(InvalidDataError, match=last):
        from_dict(RunConfig, values)
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    with pytest.raises(UsageError, match=last):
        make_config("tiny", (f"{key}={text}",))
