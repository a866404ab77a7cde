"""Time of one picture from slots: the Slot Mixer against its elementwise form and against Spatial Broadcast.

    python -m benchmarks.objects [--preset gpu-lean] [--slots 6] [--size 128] [--device cpu] [--json FILE]

All draw the same slots along the same rays, in one process, one after the other. *Elementwise* has the mixer's own
weights and forms every product of weight and slot before it sums them, in pieces of rays that fit into memory.
*Spatial Broadcast* has a rendering MLP of the same width and depth, run once for every slot. Colours of the mixer and
its elementwise form are compared as well. The weights are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.common import Benchmark, Report
from smerf.objects.cameras import look_at, view_rays
from smerf.objects.config import PRESETS, ObjectsConfig
from smerf.objects.model.decoders import BroadcastDecoder, MixerDecoder, PreparedSlots

CHUNK = 4096
PAIRS = (
    ("Slot Mixer", "mixing elementwise"),
    ("Slot Mixer", "Spatial Broadcast"),
    ("mixing by matrix product", "mixing elementwise"),
    ("the product alone", "the elementwise sum alone"),
)


class Elementwise(MixerDecoder):
    """The mixer with the sum of slots formed from all products, as the public implementation has it."""

    def mixed(self, weights: Tensor, slots: Tensor) -> Tensor:
        return (weights[..., None] * slots[:, None]).sum(2)

    def forward(self, prepared: PreparedSlots, origins: Tensor, directions: Tensor, **_: object) -> Tensor:
        rays, x = self.allocation(origins[:, 0], directions[:, 0], prepared)
        weights = torch.softmax(self.query(x) @ prepared.mixing_keys.mT * self.scale, -1)
        return torch.sigmoid(self.render(torch.cat([self.mixed(weights, prepared.slots), rays], -1)))


class Product(Elementwise):
    """The same code with a batched matrix product in that one place."""

    def mixed(self, weights: Tensor, slots: Tensor) -> Tensor:
        return weights @ slots


def time_in_turns(
    candidates: dict[str, Callable[[], object]], repeats: int, device: str
) -> dict[str, tuple[float, float]]:
    """Return the median and half the range of the milliseconds of each candidate, after one warm-up.

    They take turns, so that other work on the machine slows all of them alike.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(repeats + 1):
        for name, draw in candidates.items():
            started = time.perf_counter()
            draw()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if turn:
                times[name].append(1e3 * (time.perf_counter() - started))
    return {name: (statistics.median(taken), (max(taken) - min(taken)) / 2) for name, taken in times.items()}


def frame(decoder: torch.nn.Module, prepared: PreparedSlots, rays: tuple[Tensor, Tensor]) -> Tensor:
    """Draw all rays in pieces."""
    parts = []
    for start in range(0, rays[0].shape[2], CHUNK):
        out = decoder(prepared, *(x[:, :, start : start + CHUNK] for x in rays))
        parts.append(out if isinstance(out, Tensor) else out.colour)
    return torch.cat(parts, 1)


def contenders(
    config: ObjectsConfig, size: int, device: str
) -> tuple[dict[str, Callable[[], object]], float]:
    """Return what is timed, by name, and the largest difference of the mixer from its elementwise form."""
    torch.manual_seed(0)
    width = config.slots.width
    mixer = MixerDecoder(config.decoder, config.rays, width).to(device).eval()
    product, elementwise = (
        kind(config.decoder, config.rays, width).to(device).eval() for kind in (Product, Elementwise)
    )
    product.load_state_dict(mixer.state_dict())
    elementwise.load_state_dict(mixer.state_dict())
    broadcast = BroadcastDecoder(config.decoder, config.rays, width).to(device).eval()
    slots = torch.randn(1, config.slots.count, width, device=device)
    centre = torch.tensor([6.0, 2.0, 3.5], device=device)
    rays = view_rays(look_at(centre), torch.tensor(0.8, device=device), (size, size))
    rays = tuple(x.reshape(1, 1, -1, 3) for x in rays)
    kept = mixer.prepare(slots)
    # The mixing alone, where the difference lies.
    weights = torch.softmax(torch.randn(1, size * size, config.slots.count, device=device), -1)
    candidates = {
        "Slot Mixer": lambda: frame(mixer, kept, rays),
        "mixing by matrix product": lambda: frame(product, kept, rays),
        "mixing elementwise": lambda: frame(elementwise, kept, rays),
        "Spatial Broadcast": lambda: frame(broadcast, broadcast.prepare(slots), rays),
        "the product alone": lambda: product.mixed(weights, slots),
        "the elementwise sum alone": lambda: [
            elementwise.mixed(part, slots) for part in weights.split(CHUNK, 1)
        ],
    }
    difference = (candidates["Slot Mixer"]() - candidates["mixing elementwise"]()).abs().max()
    return candidates, float(difference)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="gpu-lean", choices=sorted(PRESETS))
    parser.add_argument("--slots", type=int, help="number of slots; the preset's own if not given")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cpu")


@torch.no_grad()
def measure(options: argparse.Namespace, report: Report) -> None:
    config = PRESETS[options.preset]
    if options.slots:
        config = dataclasses.replace(config, slots=dataclasses.replace(config.slots, count=options.slots))
    size, slots = options.size, config.slots.count
    candidates, difference = contenders(config, size, options.device)
    times = time_in_turns(candidates, options.repeats, options.device)
    print(f"{options.preset}, {slots} slots, {size}x{size} pixels")
    print(f"{'':26s} {'ms':>9s} {'+-':>7s}   {'against':26s} {'ms':>9s} {'ratio':>6s}")
    for method, peer in PAIRS:
        (median, spread), (peer_ms, _) = times[method], times[peer]
        report.add(
            method, preset=config.preset, size=[size, size], slots=slots, median_ms=median, spread=spread,
            peer=peer, peer_ms=peer_ms, speedup=peer_ms / median,
            max_difference=difference if (method, peer) == PAIRS[0] else None,
        )  # fmt: skip
        print(f"{method:26s} {median:9.2f} {spread:7.2f}   {peer:26s} {peer_ms:9.2f} {peer_ms / median:6.2f}")
    print(f"largest difference of the mixer's colours from the elementwise form: {difference:.1e}")


BENCHMARK = Benchmark(__doc__, measure, options, short=["--size", "32", "--repeats", "2"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
