"""Words: CLIP's byte-pair tokens from a user's files, and which words mean the same thing.

Source of the tokens: the public tokeniser of CLIP (arXiv 2103.00020), whose ``vocab.json`` and ``merges.txt`` lie
beside the weights.
"""

from __future__ import annotations

import difflib
import functools
import html
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from smerf.errors import InvalidDataError, UsageError

__all__ = ["SYNONYMS", "Tokeniser", "match_word", "plain_word"]

_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE)
_END_OF_WORD = "</w>"

SYNONYMS: dict[str, tuple[str, ...]] = {
    "airplane": ("aeroplane", "plane"),
    "backpack": ("rucksack",),
    "ball": ("sports ball", "football", "soccer ball"),
    "bed": ("mattress",),
    "bicycle": ("bike",),
    "bottle": ("flask",),
    "bowl": ("dish",),
    "bus": ("coach",),
    "car": ("automobile",),
    "cell phone": ("mobile phone", "phone", "smartphone"),
    "chair": ("seat", "stool", "armchair"),
    "couch": ("sofa", "settee"),
    "cup": ("mug", "beaker"),
    "dining table": ("table", "desk"),
    "handbag": ("purse",),
    "hair drier": ("hair dryer", "hairdryer"),
    "lamp": ("light", "floor lamp"),
    "laptop": ("notebook computer",),
    "microwave": ("microwave oven",),
    "motorcycle": ("motorbike",),
    "mouse": ("computer mouse",),
    "person": ("man", "woman", "child", "human"),
    "plant": ("potted plant", "house plant", "pot plant", "flower pot"),
    "refrigerator": ("fridge",),
    "remote": ("remote control",),
    "scissors": ("shears",),
    "shelf": ("bookshelf", "bookcase"),
    "sink": ("washbasin", "basin"),
    "stove": ("cooker", "oven"),
    "suitcase": ("luggage",),
    "teddy bear": ("soft toy",),
    "toilet": ("lavatory",),
    "traffic light": ("stop light",),
    "truck": ("lorry",),
    "tv": ("television", "monitor", "screen"),
    "wardrobe": ("closet",),
}
"""Each word with others that mean the same, lower case."""


COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The 80 names of COCO, in the order of its detectors' classes."""
_OTHERS = ("candle", "cube", "curtain", "lemon", "picture", "pillow", "rug", "teapot", "tulip")
_KNOWN = {*COCO, *SYNONYMS, *(word for words in SYNONYMS.values() for word in words), *_OTHERS}


def plain_word(name: str) -> str:
    """Return what a name calls: ``chair_1`` a chair, ``plant_hall`` a plant, ``loose_lemon`` a lemon."""
    parts = [part for part in name.strip().lower().split("_") if part and not part.isdigit()] or [name]
    starts = [" ".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((part for part in (*starts, parts[-1]) if part in _KNOWN), starts[0])


def match_word(asked: str, known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return which known words mean what was asked, and, if none does, the five nearest by spelling.

    A plural counts as its singular.
    """
    names = sorted(set(known))
    asked = " ".join(asked.lower().split())
    forms = {asked, asked.removesuffix("s"), asked.removesuffix("es")}
    groups = [{word, *others} for word, others in SYNONYMS.items()]
    same = forms.union(*(group for group in groups if group & forms))
    found = [name for name in names if name.lower() in same]
    return (found, []) if found else ([], difflib.get_close_matches(asked, names, 5, 0.0))


class Tokeniser:
    """CLIP's lower-case byte-pair tokens.

    Args:
        folder: With ``vocab.json`` and ``merges.txt``.

    Raises:
        UsageError: If they are not there.
        InvalidDataError: If they are damaged.
    """

    def __init__(self, folder: Path) -> None:
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).is_file():
                raise UsageError(f"{folder / name}: is not there; words need it beside the weights")
        try:
            self.ids: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
            lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        except (ValueError, OSError) as error:
            raise InvalidDataError(f"{folder}: the vocabulary is damaged ({error})") from error
        merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        if not {"<|startoftext|>", "<|endoftext|>"} <= self.ids.keys():
            raise InvalidDataError(
                f"{folder / 'vocab.json'}: lacks the tokens of start and end; it is not CLIP's"
            )
        self.start, self.end = self.ids["<|startoftext|>"], self.ids["<|endoftext|>"]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, start and end included."""
        clean = unicodedata.normalize("NFC", html.unescape(html.unescape(text)))
        clean = " ".join(clean.lower().split())
        pieces = [
            piece
            for word in _PIECES.findall(clean)
            for piece in self._merge("".join(_byte_letters()[byte] for byte in word.encode()))
        ]
        return [self.start, *(self.ids.get(piece, self.end) for piece in pieces), self.end]

    def batch(self, texts: Sequence[str], length: int, padding: int = 0) -> tuple[Tensor, Tensor]:
        """Return ids (N, length) int64 and where they are used, bool; long texts are cut, their end kept."""
        ids = torch.full((len(texts), length), padding, dtype=torch.int64)
        used = torch.zeros(len(texts), length, dtype=torch.bool)
        for row, text in enumerate(texts):
            found = self.encode(text)
            found = found if len(found) <= length else [*found[: length - 1], self.end]
            ids[row, : len(found)] = torch.tensor(found)
            used[row, : len(found)] = True
        return ids, used

    def _merge(self, word: str) -> list[str]:
        """Join the letters of a word, the pair first that was learned first."""
        parts = [*word[:-1], word[-1] + _END_OF_WORD]
        while len(parts) > 1:
            pairs = list(pairwise(parts))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            joined, place = [], 0
            while place < len(parts):
                is_pair = place + 1 < len(parts) and (parts[place], parts[place + 1]) == best
                joined.append("".join(best) if is_pair else parts[place])
                place += 2 if is_pair else 1
            parts = joined
        return parts


@functools.cache
def _byte_letters() -> dict[int, str]:
    """Return a printable letter for each byte; the bytes that are printable stand for themselves."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {byte: chr(256 + i) for i, byte in enumerate(others)}
