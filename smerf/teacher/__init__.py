"""The teacher: a radiance field fitted to photos, and the interface that distillation asks."""

from smerf.teacher.config import TeacherConfig
from smerf.teacher.general import GeneralTeacher
from smerf.teacher.model import HashTeacher, Teacher, TeacherAnswer
from smerf.teacher.stage import train_teacher
from smerf.teacher.store import load_teacher, save_teacher

__all__ = [
    "GeneralTeacher",
    "HashTeacher",
    "Teacher",
    "TeacherAnswer",
    "TeacherConfig",
    "load_teacher",
    "save_teacher",
    "train_teacher",
]
