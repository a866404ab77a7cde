import pytest

from smerf.engine import memory
from smerf.errors import UsageError


def test_what_fits_passes_and_what_does_not_is_named():
    free = memory.free_memory()
    assert free is None or free > 10_000_000
    memory.require_memory(1, "a byte", "buy more")
    with pytest.raises(
        UsageError, match=r"the moon: needs 1000000000.0 GB of memory, and .* free on cpu; buy more"
    ):
        memory.require_memory(10**18, "the moon", "buy more")


def test_where_the_system_does_not_tell_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device="cpu": None)
    memory.require_memory(10**18, "the moon", "buy more")
