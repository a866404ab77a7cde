"""The commands of object scenes, from drawing scenes to editing them, on a model of a few steps."""

import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from smerf.cli.objects import COMMANDS

TINY = [
    word
    for setting in (
        "encoder.width=16", "encoder.heads=2", "encoder.hidden=16", "encoder.patch_width=16", "slots.width=16",
        "slots.hidden=16", "decoder.heads=2", "decoder.inner=16", "decoder.hidden=16", "decoder.render_width=16",
        "training.held_out=2", "training.batch=2", "training.rays=16", "training.evaluate_every=4",
    )
    for word in ("--set", setting)
]  # fmt: skip


@pytest.fixture
def smerf(monkeypatch, capsys, tmp_path):
    """Run a command line in this process, on the real stages; return (exit code, stdout, stderr)."""
    from smerf.cli.main import main

    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = main([str(word) for word in words])
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.fixture
def scenes(smerf, tmp_path):
    path = tmp_path / "scenes"
    words = ("--scenes", 6, "--size", 16, "--views", 3, "--depth", "--seed", 3, "-q")
    code, out, err = smerf("objects", "synth", "easy", "-o", path, *words)
    assert code == 0, err
    assert out.startswith(f"scenes: {path} (6)")
    return path


def train(smerf, scenes, run, *words):
    return smerf("objects", "train", scenes, "-o", run, "-q", "--device", "cpu", *TINY, *words)


@pytest.fixture
def run(smerf, scenes, tmp_path):
    path = tmp_path / "run"
    code, out, err = train(smerf, scenes, path, "--set", "training.steps=4")
    assert code == 0, err
    assert str(path / "objects" / "model.safetensors") in out
    return path


@pytest.fixture
def slots(smerf, scenes, run, tmp_path):
    path = tmp_path / "slots.safetensors"
    code, out, err = smerf("objects", "encode", scenes, "--model", run, "--scene", 1, "-o", path)
    assert code == 0, err
    assert "5 of width 16, from 1 view)" in out
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(command, smerf):
    code, out, err = smerf("objects", command, "--help")
    assert code == 0 and err == ""
    assert (
        f"\n  smerf objects {command} " in out
        and f"usage: smerf objects {command}" in out
        and "--verbose" in out
    )
    assert smerf("objects", "help", command)[1] == out


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_words_are_usage_errors(command, smerf):
    code, out, err = smerf("objects", command)
    assert code == 2 and out == "" and "Missing" in err
    code, out, err = smerf("objects", command, "a", "-o", "b", "--no-such-flag")
    assert code == 2 and out == "" and "no-such-flag" in err


def test_an_unknown_command_names_the_nearest(smerf):
    assert smerf("objects", "encod")[::2] == (
        2,
        "smerf objects: there is no command 'encod'; did you mean 'encode'?\n",
    )
    assert smerf("objects", "--fast")[0] == 2


def test_a_run_holds_what_made_it(smerf, scenes, run):
    assert (run / "config.yaml").read_text().startswith("kind: objects\n")
    record = json.loads((run / "objects" / "record.json").read_text())
    assert record["steps"] == 4 and record["data"]["seed"] == 3 and record["command"]
    code, out, _ = smerf("info", run)
    assert code == 0 and "object model" in out and "fg ari" in out
    code, _, err = smerf("objects", "train", scenes, "-o", run)
    assert code == 0 and "already done" in err
    code, _, err = train(smerf, scenes, run, "--set", "training.steps=5")
    assert code == 2 and "training.steps (4 -> 5)" in err and "--overwrite" in err
    assert train(smerf, scenes, run, "--set", "training.steps=5", "--overwrite")[0] == 0


def test_ctrl_c_saves_and_the_same_command_continues(smerf, scenes, tmp_path, monkeypatch):
    from smerf.objects.training.trainer import ObjectsTrainer

    real = ObjectsTrainer.advance

    def advance(self):
        figures = real(self)
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return figures

    run = tmp_path / "stopped"
    monkeypatch.setattr(ObjectsTrainer, "advance", advance)
    code, _, err = train(smerf, scenes, run, "--set", "training.steps=4")
    assert code == 130 and "continues from here" in err
    assert (run / "unfinished" / "objects" / "checkpoints" / "step_000000002.safetensors").is_file()
    assert not (run / "objects" / "model.safetensors").exists()
    monkeypatch.setattr(ObjectsTrainer, "advance", real)
    assert train(smerf, scenes, run, "--set", "training.steps=4")[0] == 0
    assert json.loads((run / "objects" / "record.json").read_text())["steps"] == 4


def test_pictures_masks_and_layers(smerf, slots, tmp_path):
    out_folder = tmp_path / "pictures"
    words = ("--views", 2, "--size", 20, "--layers", "-q")
    code, out, err = smerf("objects", "render", slots, "-o", out_folder, *words)
    assert code == 0, err
    assert "(background)" in out and "2 views of 5 slots" in out
    names = {path.name for path in out_folder.iterdir()}
    assert names == {f"{kind}_{i:02d}.png" for i in range(2) for kind in ("view", "mask")} | {
        f"view_{i:02d}_slot_{k}.png" for i in range(2) for k in range(1, 6)
    }
    assert np.asarray(Image.open(out_folder / "view_00.png")).shape == (20, 20, 3)
    alphas = [
        np.asarray(Image.open(out_folder / f"view_00_slot_{k}.png"))[..., 3].astype(int) for k in range(1, 6)
    ]
    assert abs(sum(alphas) - 255).max() <= 5
    assert smerf("objects", "render", slots, "-o", out_folder, "-q")[0] == 2
    assert smerf("objects", "render", slots, "-o", out_folder, "-q", "--inputs", "--overwrite")[0] == 0


def test_a_turntable(smerf, slots, tmp_path):
    import imageio.v2 as imageio

    code, _, err = smerf(
        "objects", "render", slots, "-o", tmp_path / "t.mp4", "--views", 3, "--size", 15, "-q"
    )
    assert code == 0, err
    with imageio.get_reader(tmp_path / "t.mp4") as reader:
        frames = list(reader.iter_data())
    assert len(frames) == 3 and frames[0].shape == (16, 16, 3)


def test_edits_are_written_beside_the_slots_and_can_be_undone(smerf, slots, tmp_path):
    from smerf.objects.editing.slots import load_slots

    edited = tmp_path / "sub" / "edited.safetensors"
    words = ("--remove", 2, "--move", "1 0.5 0 0 30", "--copy", f"{slots}:3")
    code, out, err = smerf("objects", "edit", slots, "-o", edited, *words)
    assert code == 0, err
    assert "numbers 1, 3, 4, 5, 6" in out
    operations = json.loads(edited.with_suffix(".json").read_text())
    assert operations == [
        {"op": "copy", "from": "../slots.safetensors", "slot": 3},
        {"op": "move", "slot": 1, "translate": [0.5, 0.0, 0.0], "turn": 30.0},
        {"op": "remove", "slot": 2},
    ]
    assert list(load_slots(edited).operations) == operations
    code, out, err = smerf(
        "objects", "render", edited, "-o", tmp_path / "p", "--views", 1, "--size", 16, "-q"
    )
    assert code == 0 and "1 views of 5 slots" in out, err
    back = tmp_path / "back.safetensors"
    assert smerf("objects", "edit", edited, "-o", back, "--undo", 2)[0] == 0
    assert load_slots(back).operations == ({"op": "copy", "from": "slots.safetensors", "slot": 3},)
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"op": "remove", "slot": 1}]))
    assert smerf("objects", "edit", slots, "-o", back, "--script", script, "--overwrite")[0] == 0
    assert load_slots(back).operations == ({"op": "remove", "slot": 1},)


def test_a_page_of_slots_is_exported_with_its_edits(smerf, slots, tmp_path):
    edited, site = tmp_path / "edited.safetensors", tmp_path / "site"
    assert smerf("objects", "edit", slots, "-o", edited, "--remove", 1)[0] == 0
    code, out, err = smerf("objects", "export", edited, "-o", site)
    assert code == 0 and str(site / "index.html") in out, err
    scene = json.loads((site / "slots" / "slots.json").read_text())
    assert 1 not in [slot["number"] for slot in scene["slots"]]
    # The recipe's cameras stand within 40 degrees; the page keeps its visitors there.
    assert scene["azimuth"] == 40
    code, _, err = smerf("objects", "export", edited, "-o", site)
    assert code == 2 and "--overwrite" in err
    code, _, err = smerf("objects", "export", edited, "-o", tmp_path / "p.html", "--single-file", "--arc", 0)
    assert code == 2 and "--arc 0" in err
    assert smerf("objects", "export", edited, "-o", tmp_path / "p.html", "--single-file")[0] == 0
    assert "smerf-files" in (tmp_path / "p.html").read_text()


def test_info_knows_scenes_slots_and_models(smerf, scenes, run, slots):
    def info(path):
        code, out, err = smerf("info", path, "--json")
        assert code == 0, err
        return json.loads(out)

    assert {"scenes": 6, "views": 3, "size": "16x16"}.items() <= info(scenes).items()
    edited = slots.with_name("edited.safetensors")
    smerf("objects", "edit", slots, "-o", edited, "--remove", 1)
    facts = info(edited)
    assert (facts["what"], facts["slots"], facts["width"]) == ("slots", 5, 16)
    assert facts["operations"] == [{"op": "remove", "slot": 1}]
    assert info(run / "objects" / "model.safetensors")["steps"] == 4
    slots.write_bytes(slots.read_bytes()[:50])
    code, _, err = smerf("info", slots)
    assert code == 4 and "slots.safetensors: is damaged" in err


def test_a_training_starts_from_another_model(smerf, scenes, run, tmp_path):
    from smerf.objects.model.store import load_model

    words = ("--start", run, "--set", "training.steps=1", "--set", "training.lr=1e-9")
    assert train(smerf, scenes, tmp_path / "more", *words)[0] == 0
    first, second = (load_model(path / "objects")[0].state_dict() for path in (run, tmp_path / "more"))
    assert all(abs(first[name] - second[name]).max() < 1e-4 for name in first)
    code, _, err = train(smerf, scenes, tmp_path / "wide", *words, "--set", "slots.width=24")
    assert code == 4 and "other sizes" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--remove", 9), 2, "no slot 9"),
        (("--move", "1 2"), 2, "SLOT X Y Z"),
        (("--copy", "other"), 2, "FILE:SLOT"),
        (("--copy", "other.safetensors:1"), 2, "is not there"),
        (("--undo", 1), 2, "holds 0 operations"),
        ((), 2, "--remove"),
    ],
)
def test_wrong_edits(smerf, slots, tmp_path, words, code, message):
    out = tmp_path / "x.safetensors"
    result, _, err = smerf("objects", "edit", slots, "-o", out, *words)
    assert result == code and message in err and not out.exists()


def test_views_of_another_kind_than_the_model_knows_are_noted(smerf, scenes, run, tmp_path):
    words = ("objects", "encode", scenes, "--model", run, "-o", tmp_path / "s.safetensors", "--overwrite")
    assert smerf(*words)[2] == ""
    facts = json.loads((scenes / "set.json").read_text())
    (scenes / "set.json").write_text(json.dumps(facts | {"source": {"kind": "kubric"}}))
    code, _, err = smerf(*words)
    assert code == 0 and "the recipe easy alone" in err


def test_figures_of_a_model(smerf, scenes, run):
    code, out, err = smerf("objects", "eval", scenes, "--model", run, "--json", "-q")
    assert code == 0, err
    facts = json.loads(out)
    assert {"psnr", "ssim", "fg_ari", "ari", "miou"} <= facts["scores"].keys() and facts["scenes"] == 6
    assert "fg_ari" in smerf("objects", "eval", scenes, "--model", run, "--limit", 2, "-q")[1]


def test_errors_name_what_is_wrong(smerf, scenes, run, slots, tmp_path):
    assert "not a recipe" in smerf("objects", "synth", "hard", "-o", tmp_path / "x")[2]
    code, _, err = smerf("objects", "synth", "easy", "-o", scenes)
    assert code == 2 and "--overwrite" in err
    code, _, err = smerf("objects", "train", tmp_path / "nothing", "-o", tmp_path / "r")
    assert code == 2 and "does not exist" in err
    code, _, err = smerf(
        "objects", "encode", scenes, "--model", run, "--scene", 6, "-o", tmp_path / "s.safetensors"
    )
    assert code == 2 and "--scene 6" in err
    code, _, err = smerf("objects", "encode", scenes, "--model", tmp_path, "-o", tmp_path / "s.safetensors")
    assert code == 2 and "objects train" in err
    code, _, err = smerf("export", slots, "-o", tmp_path / "site")
    assert code == 2 and "smerf objects export" in err
    slots.write_bytes(slots.read_bytes()[:100])
    code, _, err = smerf("objects", "render", slots, "-o", tmp_path / "p")
    assert code == 4 and "slots.safetensors" in err


@pytest.mark.parametrize("command", ["train", "encode"])
def test_images_of_mixed_sizes_are_named(smerf, tmp_path, command):
    for kind, name in (("images", "img"), ("masks", "masks")):
        (tmp_path / kind).mkdir()
        for scene, view in np.ndindex(2, 2):
            size = (20, 10) if (kind, scene, view) == ("images", 1, 0) else (24, 24)
            image = np.zeros((*size, 3) if kind == "images" else size, np.uint8)
            Image.fromarray(image).save(tmp_path / kind / f"{name}_{scene}_{view}.png")
    positions = np.array([[[5.0, 1.0, 3.0], [4.0, 2.0, 3.0]]] * 2)
    np.savez(tmp_path / "metadata.npz", camera_pos=positions, shape=np.ones((2, 3), int))
    words = (
        ("-o", tmp_path / "run") if command == "train" else ("-o", tmp_path / "s.safetensors", "--scene", 1)
    )
    code, _, err = smerf("objects", command, tmp_path, *words)
    assert code == 4 and "img_1_0.png: has 10x20 pixels, the first image 24x24" in err


def test_a_setting_that_cannot_work_is_a_usage_error(smerf, scenes, tmp_path):
    code, _, err = smerf("objects", "train", scenes, "-o", tmp_path / "r", "--set", "training.steps=0")
    assert code == 2 and "steps: expected 1 or more, got 0" in err


def test_a_run_of_another_kind_is_left_alone(smerf, scenes, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "config.yaml").write_text("preset: preview\nmax_side: 640\n")
    code, _, err = smerf("objects", "train", scenes, "-o", tmp_path / "photos")
    assert code == 2 and "run of kind photos, not objects" in err


def test_a_gpu_that_is_not_there(smerf, scenes, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = smerf("objects", "train", scenes, "--device", "cuda")
    assert code == 3 and "--device cuda" in err
