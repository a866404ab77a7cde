"""Damage for tests of readers: bytes cut, repeated, overwritten or flipped, and JSON with odd values."""

import json

import numpy as np

ODD = [None, True, -1, 0, 1e-300, 1e300, 10**400, 2**31, 65536, "", "a\0b", "../x", [], {}, [[1]], [1e999]]


def flip_bits(data: bytes, rng: np.random.Generator, count: int = 3) -> bytes:
    """Flip a few random bits."""
    changed = bytearray(data)
    for place in rng.integers(0, len(data), count):
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, repeat, overwrite or flip a few bytes."""
    kind = rng.integers(5)
    at, end = np.sort(rng.integers(0, len(data) + 1, 2))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at:end] * 2 + data[end:]
    if kind == 2:
        return data[:at] + rng.bytes(8) + data[at + 8 :]
    if kind == 3:
        return data[:at] + data[end:]
    return flip_bits(data, rng)


def mutate_json(text: bytes, rng: np.random.Generator) -> bytes:
    """Replace a value anywhere in a JSON file by an odd one, or remove it."""
    value = json.loads(text)
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = keys[rng.integers(len(keys))]
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            break
        holder = inner
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = ODD[rng.integers(len(ODD))]
    return json.dumps(value).encode()
