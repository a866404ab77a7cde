"""Textured meshes as a teacher: readers of their files, their colours, and answers to rays by Embree."""
