"""The teacher: a radiance field fitted to photos, and the interface that distillation queries."""

from smerf.teacher.config import TeacherConfig
from smerf.teacher.model import FieldTeacher, Teacher, TeacherAnswer
from smerf.teacher.plan import resolve_config
from smerf.teacher.stage import train_teacher
from smerf.teacher.store import load_teacher, save_teacher

__all__ = [
    "FieldTeacher",
    "Teacher",
    "TeacherAnswer",
    "TeacherConfig",
    "load_teacher",
    "resolve_config",
    "save_teacher",
    "train_teacher",
]
