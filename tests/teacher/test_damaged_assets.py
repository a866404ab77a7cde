"""Damaged splat and mesh files end in a picture or in an error that names the file, within bounded memory and time."""

import logging

import pytest

from tests.helpers import damaged_assets


@pytest.mark.parametrize("kind", damaged_assets.KINDS)
def test_damaged_files_are_refused_or_shown(tmp_path, kind, caplog):
    if kind == "SPZ v4":
        pytest.importorskip("zstandard", reason="SPZ version 4 needs zstandard")
    caplog.set_level(logging.ERROR, "smerf")
    found, wrong = damaged_assets.check(kind, tmp_path, mutated=24, truncated=6, cameras="orbit")
    assert not wrong and found["refused"] + found["picture"] == 30 and found["refused"]
