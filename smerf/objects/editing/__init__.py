"""Slots in use: storing, editing, rendering, and packing for the viewers."""
