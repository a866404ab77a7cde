"""Videos through the ffmpeg program of imageio-ffmpeg: what one holds, its small grey frames, and chosen frames.

ffmpeg applies the rotation flag of phones itself. High dynamic range (HLG, PQ) is tone mapped to ordinary video.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from smerf.errors import InvalidDataError

__all__ = ["Video", "extract_frames", "probe", "read_grey"]

_GREY_SIDE = 320
_MAX_RATE = 30.0
_MAX_CANDIDATES = 18_000  # ten minutes; they take a gigabyte of disk for a while
_MAX_TERMS, _GROUP = 1000, 32
_TONE_MAP = (
    "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,"
    "zscale=t=bt709:m=bt709:r=full,format=rgb24"
)
_TRANSFERS = {"arib-std-b67": "HLG", "smpte2084": "PQ"}


@dataclass(frozen=True)
class Video:
    """A clip: upright size in pixels, frames a second, seconds, and ``HLG`` or ``PQ`` where it is HDR."""

    path: Path
    width: int
    height: int
    rate: float
    seconds: float
    hdr: str | None

    @property
    def stride(self) -> int:
        """Every how many source frames there is a candidate: at most 30 a second, and 18,000 in all."""
        by_count = self.rate * self.seconds / _MAX_CANDIDATES
        return max(1, int(np.ceil(self.rate / _MAX_RATE - 1e-3)), int(np.ceil(by_count)))


def probe(path: Path) -> Video:
    """Read what a video holds.

    Raises:
        InvalidDataError: If ffmpeg finds no video in it.
    """
    text = subprocess.run(
        [_program(), "-hide_banner", "-i", str(path)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ).stderr.decode("utf-8", "replace")
    stream = next((line for line in text.splitlines() if " Video: " in line), "")
    size, rate = re.search(r"[ ,](\d{2,5})x(\d{2,5})\b", stream), re.search(r"([\d.]+) fps", stream)
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", text)
    if size is None or rate is None or float(rate[1]) <= 0:
        said = (text.strip().splitlines() or ["no message"])[-1]
        raise InvalidDataError(f"{path}: not a readable video ({said}); export it again as MP4")
    width, height = int(size[1]), int(size[2])
    rotation = re.search(r"rotation of (-?[\d.]+) degrees", text)
    if rotation is not None and round(float(rotation[1])) % 180 == 90:
        width, height = height, width
    seconds = sum(float(part) * unit for part, unit in zip(length.groups(), (3600, 60, 1))) if length else 0.0
    hdr = next((name for word, name in _TRANSFERS.items() if word in stream), None)
    return Video(path, width, height, float(rate[1]), seconds, hdr)


def read_grey(video: Video, progress: Callable[[int], None], folder: Path) -> np.ndarray:
    """Read the candidate frames in grey, 320 pixels long: uint8 (n, H, W), mapped from a file in ``folder``.

    Candidate ``i`` is source frame ``i * video.stride``. ``progress`` is called with the number of frames read.
    """
    factor = min(1.0, _GREY_SIDE / max(video.width, video.height))
    width, height = max(2, round(video.width * factor)), max(2, round(video.height * factor))
    pick = f"select=not(mod(n\\,{video.stride}))," if video.stride > 1 else ""
    command = [
        *_begin(video), "-vf", f"{pick}scale={width}:{height},format=gray", "-f", "rawvideo", "-pix_fmt", "gray", "-",
    ]  # fmt: skip
    path, count = folder / "grey.raw", 0
    with path.open("wb") as file, _running(command) as output:
        while len(frame := output.read(width * height)) == width * height:
            file.write(frame)
            count += 1
            progress(count)
    if count == 0:
        raise InvalidDataError(f"{video.path}: holds no frames that can be decoded; export it again as MP4")
    return np.memmap(path, np.uint8, "r", shape=(count, height, width))


def extract_frames(
    video: Video, numbers: Sequence[int], max_side: int, progress: Callable[[int], None]
) -> Iterator[tuple[int, Image.Image]]:
    """Yield chosen source frames as RGB images at most ``max_side`` long, in order of their numbers."""
    factor = min(1.0, max_side / max(video.width, video.height))
    width, height = max(2, round(video.width * factor)), max(2, round(video.height * factor))
    numbers = sorted(numbers)
    done = 0
    for begin in range(0, len(numbers), _MAX_TERMS):
        some = numbers[begin : begin + _MAX_TERMS]
        chain = [f"select={_any_of(some)}"]
        chain += [_TONE_MAP] if video.hdr else []
        chain.append(f"scale={width}:{height}:flags=lanczos+accurate_rnd+full_chroma_int")
        command = [*_begin(video), "-vf", ",".join(chain), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        missing = None
        with _running(command) as output:
            for number in some:
                pixels = output.read(width * height * 3)
                if len(pixels) < width * height * 3:
                    # What ffmpeg says of it, if it failed, says more.
                    missing = number
                    break
                done += 1
                progress(done)
                yield number, Image.frombytes("RGB", (width, height), pixels)
        if missing is not None:
            raise InvalidDataError(f"{video.path}: ends before frame {missing}; export it again as MP4")


def _any_of(numbers: Sequence[int]) -> str:
    """Return ffmpeg's expression for frames of these numbers, in groups: it bears a hundred terms in a row."""
    terms = [f"eq(n\\,{number})" for number in numbers]
    groups = [terms[begin : begin + _GROUP] for begin in range(0, len(terms), _GROUP)]
    return "+".join(f"({'+'.join(group)})" for group in groups)


def _program() -> str:
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _begin(video: Video) -> list[str]:
    quiet = ["-hide_banner", "-loglevel", "error", "-nostdin"]
    return [_program(), *quiet, "-i", str(video.path), "-map", "0:v:0", "-fps_mode", "passthrough"]


@contextmanager
def _running(command: list[str]) -> Iterator[IO[bytes]]:
    """Yield the output of ffmpeg; raise if it fails, and end it when the block ends early."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, start_new_session=True
        )
        assert process.stdout is not None
        try:
            yield process.stdout
            process.stdout.close()
            process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
            path = command[command.index("-i") + 1]
            raise InvalidDataError(f"{path}: ffmpeg cannot decode it ({said[0]}); export it again as MP4")
