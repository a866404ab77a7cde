import pytest
import torch

from smerf.errors import MissingPartError
from smerf.student import StudentConfig, distill
from smerf.teacher import TeacherConfig, train_teacher


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingPartError, match=r"--device cuda: PyTorch finds no GPU .* use --device cpu"):
        train_teacher(None, TeacherConfig(), folder=tmp_path, device="cuda")
    with pytest.raises(MissingPartError, match=r"--device cuda: PyTorch finds no GPU .* use --device cpu"):
        distill(None, None, StudentConfig(), folder=tmp_path, device="cuda")
    assert not list(tmp_path.iterdir())
