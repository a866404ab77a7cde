"""Names reach the right things in space, and a word that is not there finds nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from smerf.cli.main import main
from smerf.errors import InvalidDataError, UsageError
from smerf.pipeline.find import find
from smerf.pipeline.label import label, read_instances
from smerf.pipeline.sight import open_sight
from smerf.vision.label import (
    Detection,
    Votes,
    collect_votes,
    instance_of_voxels,
    name_components,
    name_instances,
    name_tracks,
)
from smerf.vision.label_files import read_labels
from smerf.vision.lift import VoxelGrid, pack_keys
from smerf.vision.words import Tokeniser, match_word, plain_word
from tests.helpers.known_things import NAMES, THINGS, write_things

WORDS = ("ball", "orange", "table", "vase")


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    return write_things(tmp_path_factory.mktemp("things"))


@pytest.fixture(scope="module")
def sight(truth):
    return open_sight(truth.folder, quiet=True)


def word_of(number):
    return WORDS.index(plain_word(NAMES[number - 1]))


def boxes(ids, rng, *, dropped=0.3, wrong=0.2):
    """Detections as a detector makes them: boxes of what is seen, some missing, some misnamed."""
    found = []
    for number in np.unique(ids[ids > 0]).tolist():
        if rng.random() < dropped:
            continue
        rows, columns = np.nonzero(ids == number)
        word = word_of(number) if rng.random() >= wrong else int(rng.integers(len(WORDS)))
        height, width = ids.shape
        box = (
            columns.min() / width,
            rows.min() / height,
            (columns.max() + 1) / width,
            (rows.max() + 1) / height,
        )
        found.append(Detection(word, float(rng.uniform(0.3, 0.9)), box))
    return found


def votes_of_boxes(truth, sight, seed=0):
    rng = np.random.default_rng(seed)
    return collect_votes(
        ((photo, boxes(truth.ids[i], rng)) for i, photo in enumerate(sight.photos)), sight.grid, WORDS
    )


def owner(truth, sight, votes):
    return instance_of_voxels(votes, ((photo, truth.ids[i]) for i, photo in enumerate(sight.photos)))


def test_true_masks_name_everything_where_it_is(truth, sight, tmp_path):
    objects = label(sight, tmp_path, quiet=True)
    assert sorted(each["word"] for each in objects) == ["ball", "orange", "orange", "table", "vase"]
    place = sight.capture.training_from_source
    for name, (centre, radius) in THINGS.items():
        where = place.scale * place.rotation @ np.array(centre) + place.translation
        nearest = min(objects, key=lambda each: np.linalg.norm(np.array(each["box"]["centre"]) - where))
        assert nearest["word"] == plain_word(name) and nearest["score"] > 0.7
        # Photos see its upper part alone.
        assert 0.6 * radius * place.scale < max(nearest["box"]["half"]) < 1.5 * radius * place.scale
    stored = read_labels(tmp_path)
    votes = collect_votes(((photo, []) for photo in sight.photos), sight.grid, WORDS)
    true = owner(truth, sight, votes)
    for number, name in enumerate(NAMES, 1):
        mine = max(
            iou(stored.keys[stored.ids == each["id"]], votes.keys[true == number]) for each in stored.objects
        )
        assert mine >= 0.9, name


def iou(first, second):
    one, other = ({tuple(key) for key in keys.tolist()} for keys in (first, second))
    return len(one & other) / len(one | other)


def test_boxes_with_gaps_and_wrong_names_are_outvoted(truth, sight):
    right = plain = 0
    for seed in range(5):
        votes = votes_of_boxes(truth, sight, seed)
        true = owner(truth, sight, votes)
        right += named_right(name_instances(votes, true), true)
        plain += named_right(name_instances(votes, true, weigh=False), true)
    assert right >= 0.9 * 5 * len(NAMES)
    # The box of the table holds everything else, and wins more often than it should without the weight by size.
    assert plain < right


def named_right(labels, true):
    count = 0
    for each in labels.objects:
        number = np.bincount(true[each.voxels]).argmax()
        count += each.word == WORDS[word_of(number)]
    return count


def test_things_of_one_word_that_stand_apart_stay_two(truth, sight):
    detections = [
        [Detection(word_of(n), 0.9, mask=ids == n) for n in np.unique(ids[ids > 0]).tolist()]
        for ids in truth.ids
    ]
    labels = name_components(collect_votes(zip(sight.photos, detections), sight.grid, WORDS))
    words = [each.word for each in labels.objects]
    assert words.count("orange") == 2 and words.count("vase") == 1


def test_things_of_one_word_that_touch_stay_two_where_they_were_followed():
    keys = np.argwhere(np.ones((12, 6, 6))).astype(np.int32)
    grid, seen = VoxelGrid(np.zeros(3), 0.1), np.full(len(keys), 5, np.int32)
    chairs = Votes(grid, ("chair",), keys, seen, np.full((len(keys), 1), 0.8, np.float32))
    assert len(name_components(chairs).objects) == 1
    # Boxes of both reach over each other; the nearer track has more votes. A third saw next to nothing.
    left = np.clip(1.0 - keys[:, :1] / 12.0, 0.0, 1.0)
    tracks = Votes(
        grid, ("0", "1", "2"), keys, seen, np.concatenate([0.9 * left, 0.9 * (1 - left), 0.05 * left], 1)
    )
    found = name_tracks(chairs, tracks).objects
    assert [each.word for each in found] == ["chair", "chair"] and found[0].instance is None
    assert sorted(round(float(each.centre[0]), 1) for each in found) == pytest.approx([0.35, 0.95], abs=0.11)
    assert name_tracks(chairs, Votes(grid, ("0",), keys, seen, np.zeros((len(keys), 1)))).objects == ()


def test_a_word_that_is_not_there_finds_nothing(sight):
    votes = collect_votes(((photo, []) for photo in sight.photos), sight.grid, ("sofa",))
    assert name_components(votes).objects == ()
    assert name_instances(votes, np.ones(len(votes.keys), int)).objects == ()


def test_votes_do_not_depend_on_how_photos_are_merged(truth, sight, monkeypatch):
    whole = votes_of_boxes(truth, sight)
    monkeypatch.setattr("smerf.vision.label._MERGE_EVERY", 3)
    parts = votes_of_boxes(truth, sight)
    assert np.array_equal(whole.keys, parts.keys) and np.allclose(whole.votes, parts.votes)


def test_labels_are_found_by_their_words(truth, sight, tmp_path):
    import dataclasses

    label(sight, tmp_path / "labels", quiet=True)
    labelled = dataclasses.replace(sight, folder=tmp_path)
    answer = find(labelled, "oranges", top=None)
    assert answer.how == "by labels and depth, 2 labelled as orange"
    counts = truth.pixels("orange_1") + truth.pixels("orange_2")
    best = int(answer.matches[0].photo.removesuffix(".png"))
    assert counts[best] >= 0.9 * counts.max()
    with pytest.raises(UsageError, match="nothing is labelled so; there are"):
        find(labelled, "sofa")


def test_the_command_writes_labels(truth, capsys, tmp_path):
    assert main(["label", str(truth.folder), "-q"]) == 2
    assert "say where the labels go with -o" in capsys.readouterr().err
    assert main(["label", str(truth.folder), "-o", str(tmp_path / "a"), "--words", "vase", "-q"]) == 0
    assert "1  vase" in capsys.readouterr().out
    assert main(["label", str(truth.folder), "-o", str(tmp_path / "b"), "--words", "sofa", "-q"]) == 2
    assert "the masks know ball, orange, table, vase" in capsys.readouterr().err
    assert main(["label", str(truth.folder), "-o", str(tmp_path / "a"), "--words", "vase", "-q"]) == 0
    document = json.loads((tmp_path / "a" / "labels.json").read_text())
    assert document["format"] == "smerf-labels-1" and document["words"] == ["vase"]
    assert document["objects"][0]["photos"] and len(document["objects"][0]["colour"]) == 3


def test_without_masks_a_detector_is_asked_for(truth, sight, tmp_path):
    document = json.loads((truth.folder / "transforms.json").read_text())
    for frame in document["frames"]:
        frame.pop("instance_path")
    plain = tmp_path / "plain"
    write_things(plain)
    (plain / "transforms.json").write_text(json.dumps(document))
    bare = open_sight(plain, quiet=True)
    assert read_instances(bare.capture) is None and read_instances(sight.capture) is not None
    with pytest.raises(UsageError, match=r"no instance masks.*--model"):
        label(bare, tmp_path / "labels", quiet=True)
    with pytest.raises(UsageError, match="--words"):
        label(bare, tmp_path / "labels", model=tmp_path, quiet=True)


def test_damaged_labels_are_refused(tmp_path):
    with pytest.raises(UsageError, match="smerf label makes them"):
        read_labels(tmp_path)
    (tmp_path / "labels.json").write_text('{"format": "smerf-labels-1", "objects": []}')
    with pytest.raises(InvalidDataError, match="is damaged"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("chair_1", "chair"), ("plant_hall", "plant"), ("loose_lemon", "lemon"), ("rug_bed", "rug"),
        ("floor_lamp_study", "floor lamp"), ("apple_on_books", "apple"), ("arcade_north", "arcade north"),
    ],
)  # fmt: skip
def test_names_call_things(name, word):
    assert plain_word(name) == word


def test_words_that_mean_the_same():
    assert match_word("Sofa", ["couch", "chair"]) == (["couch"], [])
    assert match_word("fridges", ["refrigerator"])[0] == ["refrigerator"]
    assert match_word("vases", ["vase", "table"])[0] == ["vase"]
    found, nearest = match_word("settle", ["kettle", "table"])
    assert found == [] and nearest[0] == "kettle"


@pytest.fixture
def vocabulary(tmp_path):
    pieces = [
        *"abdehlopt!",
        "a</w>",
        "o</w>",
        "!</w>",
        "t</w>",
        "Ã",
        "©</w>",
        "ph",
        "hot",
        "photo</w>",
        "of</w>",
        "he",
        "hel",
    ]
    pieces += ["l</w>", "e</w>", "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\np h\no t\no </w>\nph ot\nphot o</w>\nh e\nhe l\n")
    return tmp_path


def test_pairs_are_merged_in_the_order_they_were_learned(vocabulary):
    tokeniser = Tokeniser(vocabulary)
    names = {number: piece for piece, number in tokeniser.ids.items()}
    pieces = [names[number] for number in tokeniser.encode("  Photo HELE\n")]
    assert pieces == ["<|startoftext|>", "photo</w>", "hel", "e</w>", "<|endoftext|>"]
    # Letters outside ASCII are the bytes of their UTF-8.
    assert [names[n] for n in tokeniser.encode("é")][1:-1] == ["Ã", "©</w>"]


def test_long_texts_keep_their_end(vocabulary):
    tokeniser = Tokeniser(vocabulary)
    ids, used = tokeniser.batch(["photo", "t " * 20], 6)
    assert ids[0].tolist() == [tokeniser.start, tokeniser.ids["photo</w>"], tokeniser.end, 0, 0, 0]
    assert used.sum(-1).tolist() == [3, 6] and ids[1, -1] == tokeniser.end


def test_a_vocabulary_of_another_model_is_refused(vocabulary):
    (vocabulary / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(InvalidDataError, match="lacks the tokens of start and end"):
        Tokeniser(vocabulary)


def test_stray_voxels_between_a_thing_and_the_wall_do_not_stretch_it():
    block = np.argwhere(np.ones((6, 6, 6)))
    strays = np.stack([np.arange(10, 200, 5), np.full(38, 3), np.full(38, 3)], -1)
    keys = np.concatenate([block, strays]).astype(np.int32)
    order = pack_keys(keys).argsort()
    seen = np.where(np.arange(len(keys)) < len(block), 40, 1)[order].astype(np.int32)
    votes = Votes(VoxelGrid(np.zeros(3), 0.1), ("vase",), keys[order], seen, np.ones((len(keys), 1)))
    (found,) = name_instances(votes, np.full(len(keys), 7)).objects
    assert found.instance == 7 and len(found.voxels) == len(block)
    assert np.allclose(found.centre, 0.3, atol=0.06) and np.all(found.half < 0.36)
