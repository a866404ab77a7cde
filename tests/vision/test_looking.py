"""A user's folders at work, with random weights: boxes land where the photo says, words and photos can be compared."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from smerf.cli.main import main
from smerf.errors import InvalidDataError, UsageError
from smerf.pipeline.find import find
from smerf.pipeline.sight import open_sight
from smerf.vision.blocks import BlockConfig
from smerf.vision.carried import DECODER, CarriedConfig, VideoOwl, order_by_pose, write_decoder
from smerf.vision.convert import load_public, save_public
from smerf.vision.layouts import KINDS
from smerf.vision.looking import ClipEyes, OwlEyes, squares
from smerf.vision.owl import Found
from tests.helpers.known_things import write_things

IMAGE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
PHOTO = IMAGE | {"image_size": 32, "patch_size": 16}
TEXT = IMAGE | {"hidden_size": 16, "vocab_size": 40, "max_position_embeddings": 16, "eos_token_id": 39}


def write_model(folder, kind):
    """Write a folder with random weights and a vocabulary of letters."""
    torch.manual_seed(0)
    config = {"model_type": kind, "text_config": TEXT, "vision_config": PHOTO, "projection_dim": 16}
    save_public(KINDS[kind].build(config), config, folder)
    letters = "abcdefghijklmnopqr"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({p: i + 40 - len(pieces) for i, p in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    return write_things(tmp_path_factory.mktemp("things"), count=4)


def test_squares_cover_a_photo():
    for height, width in ((48, 64), (64, 48), (50, 50)):
        covered = np.zeros((height, width), bool)
        for top, left, side in squares(height, width):
            assert top >= 0 and left >= 0 and top + side <= height and left + side <= width
            covered[top : top + side, left : left + side] = True
        assert covered.all()


def test_words_and_images_are_looked_for_by_clip(truth, tmp_path):
    folder = write_model(tmp_path / "clip", "clip")
    sight = dataclasses.replace(open_sight(truth.folder, quiet=True), folder=tmp_path / "run")
    image = sight.capture.frames[2].image_path
    answer = find(sight, str(image), clip=folder, top=None, quiet=True)
    assert answer.by_likeness and len(answer.matches) == 4
    scores = [match.share for match in answer.matches]
    assert scores == sorted(scores, reverse=True)
    kept = (tmp_path / "run" / "vision" / "clip.safetensors").read_bytes()
    words = find(sight, "a bed", clip=folder, quiet=True)
    assert len(words.matches) == 4 and words.how.startswith("by clip: cosines")
    assert (tmp_path / "run" / "vision" / "clip.safetensors").read_bytes() == kept
    with pytest.raises(UsageError, match="--clip FOLDER"):
        find(sight, str(image))
    with pytest.raises(UsageError, match="--clip FOLDER finds any words"):
        find(sight, "a bed")


def test_the_command_says_that_cosines_are_no_evidence(truth, tmp_path, capsys):
    folder = write_model(tmp_path / "clip", "clip")
    assert main(["find", str(truth.folder), "bed", "--clip", str(folder), "-q"]) == 0
    out = capsys.readouterr().out
    assert "cosine" in out and "not what is there" in out


@pytest.mark.parametrize("kind", ["owlvit", "owlv2"])
def test_boxes_are_in_units_of_the_photo(kind, tmp_path, monkeypatch):
    eyes = OwlEyes(write_model(tmp_path, kind), ["bed", "chair"])
    boxes = torch.tensor([[[0.25, 0.25, 0.5, 0.5]]])
    logits = torch.tensor([[[-4.0, 3.0]]])
    monkeypatch.setattr(eyes.model, "detect", lambda *_: Found(boxes, logits))
    found = eyes.detections(np.zeros((30, 60, 3), np.uint8), 0.25)
    assert len(found) == 1 and found[0].word == 1 and found[0].score == pytest.approx(0.9526, abs=1e-4)
    # OWL-ViT stretches the photo to a square; OWLv2 pads it, so that half of the square's height is all of the photo's.
    assert found[0].box == pytest.approx((0.0, 0.0, 0.5, 0.5) if kind == "owlvit" else (0.0, 0.0, 0.5, 1.0))
    assert eyes.detections(np.zeros((30, 60, 3), np.uint8), 0.99) == []


def test_labels_from_a_detector(truth, tmp_path, capsys):
    folder = write_model(tmp_path / "owl", "owlvit")
    words = ["--model", str(folder), "--words", "bed,chair"]
    assert main(["label", str(truth.folder), *words, "-o", str(tmp_path / "labels"), "-q"]) == 0
    document = json.loads((tmp_path / "labels" / "labels.json").read_text())
    assert document["model"]["kind"] == "owl" and len(document["model"]["sha256"]) == 64
    assert document["words"] == ["bed", "chair"] and "labels: " in capsys.readouterr().out


def test_folders_of_another_kind_are_refused(tmp_path):
    clip, owl = write_model(tmp_path / "clip", "clip"), write_model(tmp_path / "owl", "owlvit")
    with pytest.raises(UsageError, match="is no CLIP model"):
        ClipEyes(owl)
    with pytest.raises(UsageError, match="is no OWL-ViT"):
        OwlEyes(clip, ["bed"])


def write_carried(folder, kind="owlvit"):
    """Write a detector with a decoder of random weights beside it."""
    write_model(folder, kind)
    config = CarriedConfig(6, 1, BlockConfig(32, 4, 64))
    torch.manual_seed(1)
    write_decoder(folder, VideoOwl(load_public(folder), config), config)
    return folder


def test_a_decoder_follows_things_over_photos_in_the_order_of_their_poses(truth, tmp_path, monkeypatch):
    folder = write_carried(tmp_path / "owl")
    eyes = OwlEyes(folder, ["bed", "chair"])
    photos = [np.full((30, 60, 3), value, np.uint8) for value in (0, 90, 200)]
    tracks = list(eyes.tracks(iter(photos), 0.0))
    assert [[row for row, _ in each] for each in tracks] == [list(range(6))] * 3
    # What a query saw before decides what it says.
    again = list(eyes.tracks(iter(photos[2:]), 0.0))
    assert tracks[2][0][1].box != again[0][0][1].box
    bare = tmp_path / "bare"
    write_things(bare, count=6)
    document = json.loads((bare / "transforms.json").read_text())
    for frame in document["frames"]:
        frame.pop("instance_path")
    (bare / "transforms.json").write_text(json.dumps(document))
    seen = []
    monkeypatch.setattr("smerf.pipeline.label.load_image", lambda frame: seen.append(frame.name) or photos[0])
    monkeypatch.setattr("smerf.pipeline.label._THRESHOLD", 0.0)
    out = tmp_path / "labels"
    assert (
        main(["label", str(bare), "-o", str(out), "--model", str(folder), "--words", "bed,chair", "-q"]) == 0
    )
    sight = open_sight(bare, quiet=True)
    assert seen == [sight.photos[i].name for i in order_by_pose([each.camera for each in sight.photos])]
    assert "carried over photos" in json.loads((out / "labels.json").read_text())["model"]["kind"]


def test_a_decoder_of_another_detector_is_refused(tmp_path):
    folder = write_carried(tmp_path / "owl")
    config = CarriedConfig(6, 1, BlockConfig(32, 4, 64))
    model = VideoOwl(load_public(folder), config)
    write_decoder(folder, model, dataclasses.replace(config, queries=7))
    with pytest.raises(InvalidDataError, match="does not fit the detector"):
        next(OwlEyes(folder, ["bed"]).tracks(iter([np.zeros((8, 8, 3), np.uint8)]), 0.0))
    (folder / DECODER).write_bytes(b"nothing")
    with pytest.raises(InvalidDataError, match=r"decoder\.safetensors"):
        next(OwlEyes(folder, ["bed"]).tracks(iter([np.zeros((8, 8, 3), np.uint8)]), 0.0))
