"""The list of a scene's objects in the desktop window: which is selected and which are hidden."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from smerf.scene.objects import SceneObject, id_table

__all__ = ["ObjectList"]

_ROWS = 18
"""Of the panel, whatever the length of the list."""
_REST = "everything else"


class ObjectList:
    """Selects and hides objects, as the page's panel does.

    Args:
        objects: Those of the scene; 0 stands for everything that belongs to none of them.
        changed: Takes tables (256,) of hidden and of lit ids after each change.
    """

    def __init__(
        self, objects: Sequence[SceneObject], changed: Callable[[np.ndarray, np.ndarray], None]
    ) -> None:
        self.names = {each.id: each.name for each in objects} | ({0: _REST} if objects else {})
        self.hidden: set[int] = set()
        self.selected: int | None = None
        self.is_open = False
        self._changed = changed

    def toggle(self) -> bool:
        """Open or close the list; say whether there is one."""
        self.is_open = bool(self.names) and not self.is_open
        if not self.is_open:
            self.select(None)
        return bool(self.names)

    def select(self, number: int | None) -> None:
        """Select an object by its id, or none."""
        self.selected = number
        self._tell()

    def step(self, by: int) -> None:
        """Select the next (1) or previous (-1) of the list."""
        numbers = list(self.names)
        first = 0 if by > 0 else len(numbers) - 1
        at = first if self.selected is None else (numbers.index(self.selected) + by) % len(numbers)
        self.select(numbers[at])

    def hide(self) -> None:
        """Hide the selected object, or show it again."""
        if self.selected is not None:
            self.hidden.symmetric_difference_update({self.selected})
            self._tell()

    def isolate(self) -> None:
        """Hide all but the selected object; asked again, show all."""
        if self.selected is not None:
            others = set(self.names) - {self.selected}
            self.hidden = set() if self.hidden == others else others
            self._tell()

    def show_all(self) -> None:
        """Hide nothing."""
        self.hidden = set()
        self._tell()

    def words(self) -> str:
        """Return what a link to the page adds of the selected and the hidden ones, by their ids."""
        parts = [f"&object={self.selected}"] if self.selected else []
        parts += ["&hidden=" + ",".join(map(str, sorted(self.hidden)))] if self.hidden else []
        return "".join(parts)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of the panel: those of the list around the selected one, and what keys do."""
        numbers = list(self.names)
        at = numbers.index(self.selected) if self.selected is not None else 0
        first = min(max(0, at - _ROWS // 2), max(0, len(numbers) - _ROWS))
        rows: list[tuple[str, ...]] = [(f"Objects: {len(numbers) - 1}",)]
        for number in numbers[first : first + _ROWS]:
            mark = ">" if number == self.selected else " "
            rows.append((f"{mark} {self.names[number]}", "hidden" if number in self.hidden else ""))
        return [*rows, ("",), ("Click, Page Up, Page Down: select",), ("H hide, I isolate, U show all",)]

    def _tell(self) -> None:
        # What belongs to no object is most of the picture: lit it would say nothing.
        self._changed(id_table(self.hidden), id_table([self.selected] if self.selected else []))
