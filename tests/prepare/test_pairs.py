"""Which photos are matched: neighbours, and those that see the same from far apart in the order."""

import numpy as np

from smerf.prepare.pairs import choose_pairs, count_common


def descriptors(rng, shared=None, count=60):
    own = rng.normal(size=(count, 128)).astype(np.float32)
    own = own if shared is None else np.concatenate([own, shared + 0.02 * rng.normal(size=shared.shape)])
    return (own / np.linalg.norm(own, axis=1, keepdims=True)).astype(np.float32)


def test_common_features_are_counted():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(20, 128)).astype(np.float32)
    shared /= np.linalg.norm(shared, axis=1, keepdims=True)
    assert 18 <= count_common(descriptors(rng, shared), descriptors(rng, shared)) <= 22
    assert count_common(descriptors(rng), descriptors(rng)) <= 3
    assert count_common(np.zeros((0, 128), np.float32), descriptors(rng)) == 0


def test_few_photos_are_all_matched():
    names = [f"{index}.jpg" for index in range(6)]
    assert len(choose_pairs([names], {})) == 15


def test_neighbours_and_the_closing_of_a_loop_are_matched():
    rng = np.random.default_rng(1)
    names = [f"{index:02d}.jpg" for index in range(40)]
    place = rng.normal(size=(25, 128)).astype(np.float32)
    place /= np.linalg.norm(place, axis=1, keepdims=True)
    found = {name: descriptors(rng, place if name in ("00.jpg", "39.jpg") else None) for name in names}
    pairs = choose_pairs([names], found)
    assert ("00.jpg", "39.jpg") in pairs and ("10.jpg", "13.jpg") in pairs
    assert len(pairs) < 200
    assert choose_pairs([names], found, use_order=False) == [("00.jpg", "39.jpg")]


def test_order_does_not_reach_across_inputs_and_is_wider_in_a_video():
    rng = np.random.default_rng(2)
    names = [f"{index:02d}.jpg" for index in range(40)]
    found = {name: descriptors(rng) for name in names}
    pairs = choose_pairs([names[:20], names[20:]], found)
    assert ("19.jpg", "20.jpg") not in pairs and ("18.jpg", "19.jpg") in pairs
    assert ("00.jpg", "16.jpg") in choose_pairs([names], found, is_video=True)
