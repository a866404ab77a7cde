import importlib
import sys

import fakes
import pytest
import yaml

from smerf.engine.settings import from_dict, to_dict
from smerf.errors import InvalidDataError, UsageError

RunConfig = load_config = make_config = save_config = None


@pytest.fixture(autouse=True)
def stages(monkeypatch):
    """The run's config, put together from those of the fake stages."""
    for name, module in fakes.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "smerf.pipeline.config", raising=False)
    made = importlib.import_module("smerf.pipeline.config")
    for name in ("RunConfig", "load_config", "make_config", "save_config"):
        monkeypatch.setitem(globals(), name, getattr(made, name))
    yield
    sys.modules.pop("smerf.pipeline.config", None)


def test_a_preset_holds_every_stage():
    config = make_config("standard")
    assert isinstance(config, RunConfig) and config.max_side == 1600
    assert (config.teacher.steps, config.student.steps, config.bake.resolution) == (9, 8, 512)
    assert make_config("preview").max_side == 640


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UsageError, match="preview"):
        make_config("previw")


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("teacher.lr=1e-3", ("teacher", "lr"), 0.001),
        ("teacher.lr=2", ("teacher", "lr"), 2.0),
        ("teacher.steps=1e4", ("teacher", "steps"), 10_000),
        ("max-side=800", ("max_side",), 800),
        ("student.grid.sizes=[8, 4, 2]", ("student", "grid", "sizes"), (8, 4, 2)),
        ("student.grid.mode=fast", ("student", "grid", "mode"), "fast"),
        ("student.grid.mode=null", ("student", "grid", "mode"), None),
        ("teacher.fails=true", ("teacher", "fails"), True),
    ],
)
def test_overrides_take_the_type_of_the_field(override, path, value):
    found = make_config("preview", (override,))
    for name in path:
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("teacher.lrr=1", "did you mean 'lr'"),
        ("teachr.lr=1", "did you mean 'teacher'"),
        ("teacher.steps=fast", "teacher.steps: expected int"),
        ("teacher.steps=1.5", "teacher.steps: expected int"),
        ("teacher.steps=true", "teacher.steps: expected int"),
        ("teacher.lr=[1]", "teacher.lr: expected float"),
        ("teacher=3", "teacher"),
        ("teacher.lr.x=3", "x"),
        ("student.grid.sizes=[a]", r"student.grid.sizes\[0\]"),
        ("teacher.lr", "KEY=VALUE"),
        ("teacher.lr=[", "YAML"),
    ],
)
def test_overrides_that_make_no_sense_are_named(override, words):
    with pytest.raises(UsageError, match=words):
        make_config("preview", (override,))


def test_the_seed_goes_to_every_stage_that_has_one():
    assert make_config("preview", seed=7).teacher.seed == 7


def test_yaml_reads_back_equal_and_is_plain(tmp_path):
    config = make_config("preview", ("student.grid.sizes=[5]", "teacher.lr=1e-7"))
    save_config(tmp_path / "config.yaml", config)
    assert load_config(tmp_path / "config.yaml") == config
    assert "!!" not in (tmp_path / "config.yaml").read_text()


def test_an_unknown_key_in_the_file_names_file_key_and_nearest(tmp_path):
    values = to_dict(make_config())
    values["student"]["grid"]["size"] = [1]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InvalidDataError, match=r"config\.yaml: no key student\.grid\.size; .*'sizes'"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize("text", ["- 1", "a: [", "{}", "preset: preview", "\x00"])
def test_files_that_are_no_config_are_named(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InvalidDataError, match=r"config\.yaml"):
        load_config(tmp_path / "config.yaml")


def test_missing_keys_keep_their_defaults():
    assert from_dict(fakes.TeacherConfig, {"steps": 3}) == fakes.TeacherConfig(steps=3)
