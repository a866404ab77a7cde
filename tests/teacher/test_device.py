import pytest

from smerf.errors import MissingPartError
from smerf.student import StudentConfig, distill
from smerf.teacher import TeacherConfig, train_teacher


def test_a_device_without_kernels_is_refused_rather_than_ignored(tmp_path):
    with pytest.raises(MissingPartError, match="cuda"):
        train_teacher(None, TeacherConfig(), folder=tmp_path, device="cuda")
    with pytest.raises(MissingPartError, match="cuda"):
        distill(None, None, StudentConfig(), folder=tmp_path, device="cuda")
    assert not list(tmp_path.iterdir())
