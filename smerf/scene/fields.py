"""Typed access to foreign JSON."""

from __future__ import annotations

import sys
from typing import Any, TypeGuard

import numpy as np

from smerf.errors import InvalidDataError

__all__ = ["Fields", "is_number"]


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether a JSON value is a number that fits a finite float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


class Fields:
    """Typed access to a JSON object; every complaint names the file and the key."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidDataError(f"{where}: expected an object, got {type(value).__name__}")
        self.value, self.where = value, where

    def text(self, key: str, default: str | None = None) -> str:
        value = self.value.get(key, default)
        if not isinstance(value, str):
            raise InvalidDataError(f"{self.where}: {key!r} must be a string, got {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.value.get(key, default)
        if not is_number(value):
            raise InvalidDataError(f"{self.where}: {key!r} must be a finite number, got {str(value)[:80]}")
        return float(value)

    def array(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        try:
            array = np.array(self.value.get(key), np.float64)
        except (TypeError, ValueError, OverflowError):
            array = np.zeros(0)
        if array.shape != shape or not np.isfinite(array).all():
            raise InvalidDataError(f"{self.where}: {key!r} must be finite numbers of shape {shape}")
        return array
