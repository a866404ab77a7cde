import pytest
import torch

from smerf.engine.tensors import read_tensors, write_tensors
from smerf.errors import InvalidDataError, UsageError


def read(path):
    return read_tensors(path, "smerf-thing-1", "a thing", "make it again")


def test_what_is_written_comes_back(tmp_path):
    path = tmp_path / "new" / "thing.safetensors"
    matrix = torch.arange(6.0).view(2, 3).T
    write_tensors(
        path, {"a": matrix, "b": torch.tensor([1], dtype=torch.uint8)}, "smerf-thing-1", {"note": "x"}
    )
    tensors, header = read(path)
    assert torch.equal(tensors["a"], matrix) and tensors["b"].dtype == torch.uint8
    assert header == {"format": "smerf-thing-1", "note": "x"}
    assert [entry.name for entry in path.parent.iterdir()] == ["thing.safetensors"]


def test_errors_name_the_file_and_the_mend(tmp_path):
    path = tmp_path / "thing.safetensors"
    with pytest.raises(
        UsageError, match=r"thing\.safetensors: is not there; expected a thing; make it again"
    ):
        read(path)
    path.write_bytes(b"\0" * 40)
    with pytest.raises(InvalidDataError, match=r"thing\.safetensors: is damaged .*make it again"):
        read(path)
    write_tensors(path, {"a": torch.zeros(1)}, "smerf-other-2")
    with pytest.raises(InvalidDataError, match="holds smerf-other-2, not smerf-thing-1"):
        read(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(InvalidDataError, match="is damaged"):
        read(path)
