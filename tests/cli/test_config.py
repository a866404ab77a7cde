import importlib
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
import yaml

from smerf.engine.folder import RunFolder
from smerf.engine.settings import apply_overrides, from_dict, to_dict
from smerf.errors import InvalidDataError, UsageError
from tests.helpers import fakes

RunConfig = load_config = make_config = part = write_config = None


@pytest.fixture(autouse=True)
def stages(monkeypatch):
    """The run's config, put together from those of the fake stages."""
    replaced = fakes.install()
    made = importlib.import_module("smerf.pipeline.config")
    for name in ("RunConfig", "load_config", "make_config", "part", "write_config"):
        monkeypatch.setitem(globals(), name, getattr(made, name))
    yield
    fakes.uninstall(replaced)


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
    config, run = make_config("preview", ("student.grid.sizes=[5]", "teacher.lr=1e-7")), RunFolder(tmp_path)
    write_config(run, config)
    assert load_config(run) == load_config(run, asked=True) == config
    assert "!!" not in run.config.read_text() and "\nautomatic:" not in run.config.read_text()


def test_what_a_stage_chose_stands_in_the_file_beside_what_was_asked_for(tmp_path):
    asked, run = make_config("preview"), RunFolder(tmp_path)
    write_config(run, asked)
    ran = make_config("preview", ("student.width=16",))
    run.begin("student", "k")
    run.finish("student", "k", 1.0, settings={"ran": part(ran, "student"), "asked": part(asked, "student")})
    write_config(run, asked)
    values = yaml.safe_load(run.config.read_text())
    assert values["student"]["width"] == 16 and values["automatic"] == {"student.width": 8}
    assert load_config(run) == ran and load_config(run, asked=True) == asked


def test_the_file_keeps_the_settings_of_results_until_they_are_replaced(tmp_path):
    first, run = make_config("preview"), RunFolder(tmp_path)
    write_config(run, first)
    run.begin("teacher", "k")
    run.finish("teacher", "k", 1.0, settings={"ran": part(first, "teacher"), "asked": part(first, "teacher")})
    write_config(run, make_config("preview", ("teacher.lr=1", "student.steps=5")))
    assert load_config(run).teacher.lr == 0.01 and load_config(run).student.steps == 5


def test_an_unknown_key_in_the_file_names_file_key_and_nearest(tmp_path):
    values = to_dict(make_config())
    values["student"]["grid"]["size"] = [1]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(
        InvalidDataError, match=r"config\.yaml: there is no key student\.grid\.size; .*'sizes'"
    ):
        load_config(RunFolder(tmp_path))


DEEP = "[" * 5000


@pytest.mark.parametrize(
    "text",
    [
        "- 1", "a: [", "{}", "preset: preview", "\x00", DEEP, f"preset: {DEEP}", "max_side: " + "9" * 5000,
        "automatic: 3", "? [1]\n: 2", "&a [*a]", "!!python/object/apply:os.system [true]",
    ],
)  # fmt: skip
def test_files_that_are_no_config_are_named(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InvalidDataError, match=r"config\.yaml"):
        load_config(RunFolder(tmp_path))


def test_missing_keys_keep_their_defaults():
    assert from_dict(fakes.TeacherConfig, {"steps": 3}) == fakes.TeacherConfig(steps=3)


@dataclass(frozen=True)
class Inner:
    max_blocks: int = 1
    RENAMED: ClassVar[dict[str, str]] = {"most_blocks": "max_blocks"}


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    size: float = 1.0
    RENAMED: ClassVar[dict[str, str]] = {"scale": "size"}


@pytest.mark.parametrize(
    ("values", "override", "words"),
    [
        ({"scale": 2.0}, "scale=2", "scale is now called size"),
        ({"inner": {"most_blocks": 2}}, "inner.most_blocks=2", "most_blocks is now called .*max_blocks"),
    ],
)
def test_a_renamed_setting_is_refused_with_its_new_name(values, override, words):
    with pytest.raises(InvalidDataError, match=words):
        from_dict(Outer, values)
    with pytest.raises(UsageError, match=words):
        apply_overrides(Outer(), (override,))


@dataclass(frozen=True)
class Switch:
    mode: Literal["auto", "off"] = "auto"


def test_a_bare_off_is_the_word_and_not_a_truth_value():
    assert apply_overrides(Switch(), ("mode=off",)) == Switch("off")
    with pytest.raises(UsageError, match=r"mode: expected auto \| off, got True"):
        apply_overrides(Switch(), ("mode=on",))
