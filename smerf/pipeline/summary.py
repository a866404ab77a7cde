"""Print results as plain aligned tables on stdout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smerf.engine.files import read_json
from smerf.engine.folder import RunFolder
from smerf.engine.progress import format_seconds
from smerf.pipeline.asset import rendered_from
from smerf.pipeline.stages import ONE_FILE

__all__ = ["folder_bytes", "format_bytes", "format_table", "print_baked", "print_metrics", "print_summary"]

COLUMNS = {
    "masked_psnr": ("masked PSNR", 2),
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 4),
    "lpips_vgg": ("LPIPS", 4),
    "flip": ("FLIP", 4),
}
"""Figures shown, where a stage has them: heading and decimals."""


def print_summary(run: RunFolder, stages: dict[str, dict[str, Any]]) -> None:
    """Print what the run came to: quality, time and memory of each stage, and where the page is."""
    print_metrics(stages)
    name = rendered_from(run.path / "capture")
    if name:
        print(f"against the file's own renders ({name})")
    rows = []
    for name, command in (
        ("teacher", "train"),
        ("student", "distill"),
        ("baked", "bake"),
        ("site", "export"),
    ):
        stage = run.stage(name)
        if stage is not None:
            memory = [
                format_bytes(peak * 2**20) if peak else "-"
                for peak in (stage.peak_memory_mb, stage.peak_gpu_mb)
            ]
            rows.append([command, format_seconds(stage.seconds), *memory])
    has_gpu = any(row[3] != "-" for row in rows)
    header = ["stage", "time", "peak memory", "peak GPU memory"]
    print(format_table(header[: 3 + has_gpu], [row[: 3 + has_gpu] for row in rows]))
    print()
    size = format_bytes(folder_bytes(run.folder("site")))
    print(f"page:   {run.folder('site') / 'index.html'} ({size})")
    one_file = run.path / ONE_FILE
    if one_file.is_file():
        print(f"file:   {one_file} ({format_bytes(one_file.stat().st_size)}; opens by a double click)")
    if run.report.is_file():
        print(f"report: {run.report}")
    print(f"open:   smerf serve {run.path}")


def print_baked(run: RunFolder) -> None:
    """Print where the baked scene is, its size, and what a size budget cost."""
    baked = run.folder("baked")
    cost = read_json(baked / "manifest.json").get("extra", {}).get("size_budget")
    if cost:
        print(
            f"size:  {cost['full_mb']:.1f} MB -> {cost['mb']:.1f} MB of {cost['max_mb']:g} MB with "
            f"{100 * cost['blocks_kept']:.0f} % of the occupied blocks; on {len(cost['views'])} training photos "
            f"{cost['full_psnr']:.2f} dB -> {cost['psnr']:.2f} dB"
        )
    print(f"scene: {baked} ({format_bytes(folder_bytes(baked))})\nnext:  smerf export {run.path} -o site")


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def print_metrics(stages: dict[str, dict[str, Any]]) -> None:
    """Print the held-out quality of the stages side by side."""
    if not stages:
        print("The capture has no test photos, so nothing was measured.\n")
        return
    results = {stage: summary.get("results", {}) for stage, summary in stages.items()}
    shown = [key for key in COLUMNS if any(isinstance(r.get(key), (int, float)) for r in results.values())]
    rows = [
        [stage, *(f"{result[key]:.{COLUMNS[key][1]}f}" if key in result else "-" for key in shown)]
        for stage, result in results.items()
    ]
    protocol = next(iter(stages.values())).get("protocol", {})
    split = protocol.get("split", "")
    print(f"Held-out quality ({split})" if split else "Held-out quality")
    print(format_table(["stage", *(COLUMNS[key][0] for key in shown)], rows))
    print()


def format_table(header: list[str], rows: list[list[str]]) -> str:
    """Align a table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def format_bytes(count: float) -> str:
    """Format a size for people: ``812 B``, ``34.5 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
