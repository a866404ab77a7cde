"""A needle in a set of photos: does a reader name the one photo that shows what is asked for, among up to 4,096?

    python -m benchmarks.needle [--steps 1200] [--trials 192] [--counts 64,256,1024,4096] [--experts 0]
                                [--json FILE]

Vectors stand for photos: what one shows, with noise, and a mark that is its own. The reader is asked for something that
one shows and must answer with its mark; the nearest mark of the set counts. It is trained on sets of 8 to 64. Peer: the
same reader without the factor log(N) / log(64) on its logits. Place in the set is a control: a set has no order.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from torch.nn import functional

from benchmarks.common import Benchmark, Report
from smerf.errors import UsageError
from smerf.vision.latents import ReaderConfig, SetReader

_HALF = 32
_NOISE = 0.5 * _HALF**-0.5
_CHUNK = 256
_BATCH = 16
_BALANCE = 0.01


def unit(*shape: int, generator: torch.Generator) -> torch.Tensor:
    """Return random unit vectors."""
    return functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def make_sets(count: int, batch: int, generator: torch.Generator, *, twins: bool = False):
    """Return photos (B, N, 64), queries (B, 64), and the index of the photo that is asked for (B,).

    With ``twins`` another photo shows the same but for a small difference.
    """
    shown = unit(batch, count, _HALF, generator=generator)
    needle = torch.randint(count, (batch,), generator=generator)
    rows = torch.arange(batch)
    asked = shown[rows, needle]
    if twins:
        other = (needle + 1 + torch.randint(count - 1, (batch,), generator=generator)) % count
        shown[rows, other] = functional.normalize(
            asked + 0.6 * unit(batch, _HALF, generator=generator), dim=-1
        )
    seen = shown + _NOISE * torch.randn(batch, count, _HALF, generator=generator)
    photos = torch.cat([seen, unit(batch, count, _HALF, generator=generator)], -1)
    return photos, torch.cat([asked, torch.zeros(batch, _HALF)], -1), needle


def train(config: ReaderConfig, steps: int, seed: int = 0) -> SetReader:
    """Train a reader on sets of ``config.trained`` photos."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = SetReader(config)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        # Small sets first: among many, the first gradients say nothing.
        count = round(8 * (config.trained / 8) ** min(1.0, 2.0 * step / steps))
        photos, query, needle = make_sets(count, _BATCH, generator)
        answer, balance = model([photos], count, query)
        loss = functional.cross_entropy(marks_near(answer, photos) * 16.0, needle) + _BALANCE * balance
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def marks_near(answer: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
    """Return the cosine of an answer with the mark of every photo (B, N)."""
    return (photos[..., _HALF:] @ functional.normalize(answer[:, _HALF:], dim=-1)[..., None])[..., 0]


@torch.no_grad()
def recall(model: SetReader, count: int, trials: int, *, is_scaled: bool = True, twins: bool = False):
    """Return the recall, and that of each tenth of the places in the set."""
    generator = torch.Generator().manual_seed(count)
    right, places = [], []
    for start in range(0, trials, _BATCH):
        photos, query, needle = make_sets(count, min(_BATCH, trials - start), generator, twins=twins)
        answer, _ = model(photos.split(_CHUNK, 1), count, query, is_scaled=is_scaled)
        right.append((marks_near(answer, photos).argmax(-1) == needle).numpy())
        places.append((needle * 10 // count).numpy())
    right, places = np.concatenate(right), np.concatenate(places)
    depths = [float(right[places == tenth].mean()) for tenth in range(10) if (places == tenth).any()]
    return float(right.mean()), depths


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--trials", type=int, default=192)
    parser.add_argument("--counts", default="64,256,1024,4096")
    parser.add_argument("--experts", type=int, default=0)


def measure(options: argparse.Namespace, report: Report) -> None:
    """Train one reader and fill the grid."""
    counts = [int(part) for part in options.counts.split(",")]
    if min(counts, default=0) < 10:
        raise UsageError(f"--counts {options.counts}: give numbers of photos of 10 or more")
    model = train(ReaderConfig(experts=options.experts), options.steps)
    print(f"{'photos':>7} {'recall':>7} {'no factor':>9} {'confusable':>10}  min and max over ten places")
    for count in counts:
        found, depths = recall(model, count, options.trials)
        plain, _ = recall(model, count, options.trials, is_scaled=False)
        close, _ = recall(model, count, options.trials, twins=True)
        print(f"{count:7d} {found:7.3f} {plain:9.3f} {close:10.3f}  {min(depths):.2f} {max(depths):.2f}")
        report.add(f"needle/{count}", recall=found, no_factor=plain, confusable=close, min_place=min(depths))


BENCHMARK = Benchmark(
    __doc__, measure, arguments, short=["--steps", "100", "--trials", "32", "--counts", "64,256"]
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
