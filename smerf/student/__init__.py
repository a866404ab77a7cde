"""The student: partition, quantised grids, appearance lattice, distillation."""

from smerf.student.config import StudentConfig
from smerf.student.model import Student
from smerf.student.stage import distill
from smerf.student.store import load_student, save_student

__all__ = ["Student", "StudentConfig", "distill", "load_student", "save_student"]
