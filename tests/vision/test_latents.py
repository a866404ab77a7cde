"""Reading many photos in chunks: the same as at once, in the memory of a few."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from benchmarks import needle
from smerf.vision.latents import ReaderConfig, SetReader, attend_in_chunks, set_scale


def keys_values(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2, 3, count, 8, generator=generator) for _ in range(2))


@pytest.mark.parametrize("size", [1, 256, 5000])
def test_chunks_are_read_as_one(size):
    keys, values = keys_values(4096)
    queries = 4.0 * torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(1))
    chunks = zip(keys.split(size, 2), values.split(size, 2))
    read, total = attend_in_chunks(queries, chunks, 0.5)
    logits = queries @ keys.mT * 0.5
    assert (read - torch.softmax(logits, -1) @ values).abs().max() < 1e-5
    assert (total - torch.logsumexp(logits, -1)).abs().max() < 1e-5


def test_logits_that_overflow_are_read_too():
    keys, values = keys_values(64)
    read, _ = attend_in_chunks(torch.full((2, 3, 1, 8), 1e4), zip(keys.split(8, 2), values.split(8, 2)), 1.0)
    assert read.isfinite().all()


@pytest.mark.parametrize("experts", [0, 4])
def test_no_more_than_two_chunks_are_alive(experts):
    model = SetReader(ReaderConfig(experts=experts))
    alive, most = weakref.WeakSet(), 0

    def chunks():
        nonlocal most
        for _ in range(16):
            chunk = torch.randn(1, 256, 64)
            alive.add(chunk)
            gc.collect()
            most = max(most, len(alive))
            yield chunk

    with torch.no_grad():
        answer, _ = model(chunks(), 4096, torch.randn(1, 64))
    assert answer.shape == (1, 64) and most <= 2


@pytest.mark.parametrize("experts", [0, 4])
def test_chunks_and_order_change_nothing(experts):
    torch.manual_seed(0)
    model = SetReader(ReaderConfig(experts=experts)).double()
    photos, query = torch.randn(2, 300, 64, dtype=torch.float64), torch.randn(2, 64, dtype=torch.float64)
    whole, balance = model([photos], 300, query)
    shuffled = photos[:, torch.randperm(300)]
    for chunks in (photos.split(64, 1), [shuffled]):
        assert (model(chunks, 300, query)[0] - whole).abs().max() < 1e-10
    assert (balance.item() > 0.9) == (experts > 0)


def test_larger_sets_get_sharper_logits():
    assert set_scale(64, 64) == set_scale(8, 64) == 1.0
    assert set_scale(4096, 64) == pytest.approx(2.0)


def test_a_reader_learns_to_name_the_photo():
    model = needle.train(ReaderConfig(trained=16), 250)
    found, depths = needle.recall(model, 16, 128)
    assert found > 0.6 and len(depths) == 10
    # Guessing would name one in sixteen.
    untrained, _ = needle.recall(SetReader(ReaderConfig()), 16, 128)
    assert untrained < 0.3
