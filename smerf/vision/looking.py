"""A user's CLIP or OWL folder, or detector of COCO's names, at work: pictures in, vectors or boxes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from smerf.errors import InvalidDataError, UsageError
from smerf.vision.carried import read_carried
from smerf.vision.clip import MEAN, STD, Clip
from smerf.vision.convert import load_public
from smerf.vision.label import Detection
from smerf.vision.owl import Found, Owl
from smerf.vision.tfjs import GraphModel
from smerf.vision.words import COCO, Tokeniser

__all__ = ["ClipEyes", "CocoEyes", "OwlEyes", "squares"]

_PROMPT = "a photo of a {}"


def squares(height: int, width: int) -> list[tuple[int, int, int]]:
    """Return squares (top, left, side) that cover a photo: three along it, and one at each corner."""
    short = min(height, width)
    spare_y, spare_x = height - short, width - short
    found = [(round(spare_y * step), round(spare_x * step), short) for step in (0.0, 0.5, 1.0)]
    side = max(1, round(0.6 * short))
    found += [(top, left, side) for top in (0, height - side) for left in (0, width - side)]
    return list(dict.fromkeys(found))


def normalised(pixels: np.ndarray, size: int) -> Tensor:
    """Resize pixels (H, W, 3) uint8 to a square and normalise them as CLIP's were: (3, size, size)."""
    image = torch.tensor(pixels[..., :3]).permute(2, 0, 1)[None].float() / 255.0
    image = functional.interpolate(image, (size, size), mode="bicubic", antialias=True, align_corners=False)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (image[0].clamp(0.0, 1.0) - mean) / std


class ClipEyes:
    """A CLIP model with its words.

    Raises:
        UsageError: If the folder holds something else.
    """

    def __init__(self, folder: Path) -> None:
        model = load_public(folder)
        if not isinstance(model, Clip):
            raise UsageError(f"{folder}: is no CLIP model")
        self.model, self.folder = model, folder

    @torch.no_grad()
    def words(self, text: str) -> Tensor:
        """Return the unit vector (P,) of a text."""
        length = self.model.config.words.length
        ids, used = Tokeniser(self.folder).batch([_PROMPT.format(text)], length)
        return self.model.encode_words(ids, used)[0]

    @torch.no_grad()
    def photo(self, pixels: np.ndarray) -> Tensor:
        """Return unit vectors (K, P) of the squares of a photo (H, W, 3) uint8."""
        size = self.model.config.image.size
        parts = [
            pixels[top : top + side, left : left + side] for top, left, side in squares(*pixels.shape[:2])
        ]
        return self.model.encode_images(torch.stack([normalised(part, size) for part in parts]))


class OwlEyes:
    """An OWL-ViT or OWLv2 model that looks for words.

    Args:
        folder: The model in its public layout, with its vocabulary.
        words: What to look for.

    Raises:
        UsageError: If the folder holds something else.
    """

    @torch.no_grad()
    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        model = load_public(folder)
        if not isinstance(model, Owl):
            raise UsageError(f"{folder}: is no OWL-ViT or OWLv2 model")
        self.model = model
        self.folder = folder
        texts = [_PROMPT.format(word) for word in words]
        ids, used = Tokeniser(folder).batch(texts, model.config.towers.words.length)
        self.queries = model.queries(ids, used)

    @torch.no_grad()
    def detections(self, pixels: np.ndarray, threshold: float) -> list[Detection]:
        """Find the words in a photo (H, W, 3) uint8, scores above a threshold."""
        image, reach = self._prepared(pixels)
        found = self.model.detect(self.model.image_tokens(image), self.queries[None])
        return [each for _, each in self._above(found, reach, threshold)]

    @torch.no_grad()
    def tracks(self, photos: Iterable[np.ndarray], threshold: float) -> Iterator[list[tuple[int, Detection]]]:
        """Find the words in photos that pass for a video, with the decoder beside the detector.

        Yields:
            For each photo the detections with their tracks: what has the same number is the same thing.
        """
        model = read_carried(self.folder, self.model)
        reaches: list[tuple[float, float]] = []

        def frames() -> Iterator[Tensor]:
            for pixels in photos:
                image, reach = self._prepared(pixels)
                reaches.append(reach)
                yield image

        for found in model(frames(), self.queries[None]):
            yield self._above(found, reaches[-1], threshold)

    def _prepared(self, pixels: np.ndarray) -> tuple[Tensor, tuple[float, float]]:
        """Return what the detector takes, (1, 3, size, size), and how far its boxes reach in units of the photo."""
        height, width = pixels.shape[:2]
        reach = (1.0, 1.0)
        if self.model.config.has_objectness:
            # OWLv2 pads to a square at the right and below, so its boxes are in units of the longer side.
            side = max(height, width)
            reach = (side / width, side / height)
            padded = np.zeros((side, side, 3), np.uint8)
            padded[:height, :width] = pixels[..., :3]
            pixels = padded
        return normalised(pixels, self.model.config.towers.image.size)[None], reach

    @staticmethod
    def _above(found: Found, reach: tuple[float, float], threshold: float) -> list[tuple[int, Detection]]:
        """Return detections above a threshold with their rows."""
        scores, words = torch.sigmoid(found.logits[0]).max(-1)
        result = []
        for row in torch.nonzero(scores > threshold)[:, 0].tolist():
            x, y, w, h = found.boxes[0, row].tolist()
            box = (
                (x - w / 2) * reach[0], (y - h / 2) * reach[1], (x + w / 2) * reach[0], (y + h / 2) * reach[1],
            )  # fmt: skip
            result.append((row, Detection(int(words[row]), float(scores[row]), box)))
        return result


class CocoEyes:
    """A TensorFlow.js detector of the 80 names of COCO: photos of one size, 0 to 255, in; rows of boxes out.

    Args:
        path: Its ``model.json``, with the shards beside it.

    Raises:
        UsageError: If the file is not there.
        InvalidDataError: If it cannot be read, or is no such detector.
    """

    def __init__(self, path: Path) -> None:
        self.model = GraphModel(path)
        rows = [name for name, shape in self.model.outputs.items() if len(shape) == 3 and shape[-1] == 6]
        sizes = [shape[1:3] for shape in self.model.inputs.values() if len(shape) == 4 and shape[-1] == 3]
        if len(rows) != 1 or len(sizes) != 1 or len(self.model.inputs) != 1 or min(sizes[0]) < 1:
            raise InvalidDataError(
                f"{path}: is no detector of COCO's names; expected one picture of a fixed size as input, and one "
                "output of rows x0 y0 x1 y1 score class"
            )
        self._rows, (self._height, self._width) = rows[0], sizes[0]

    @torch.no_grad()
    def detections(self, pixels: np.ndarray, threshold: float) -> list[Detection]:
        """Find what it knows in a photo (H, W, 3) uint8, scores above a threshold; words index ``COCO``."""
        image = torch.tensor(pixels[..., :3]).permute(2, 0, 1)[None].float()
        size = (self._height, self._width)
        image = functional.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
        found = self.model({next(iter(self.model.inputs)): image.permute(0, 2, 3, 1)})[self._rows][0]
        result = []
        for left, top, right, bottom, score, word in found[found[:, 4] > threshold].tolist():
            if not 0 <= word < len(COCO):
                raise InvalidDataError(
                    f"{self.model.path}: gives class {word:g}; the names of COCO are 0 to 79"
                )
            box = (left / self._width, top / self._height, right / self._width, bottom / self._height)
            result.append(Detection(int(word), score, box))
        return result
