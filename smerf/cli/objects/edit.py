"""``smerf objects edit``: remove, move and copy objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from smerf.cli.options import Common, Output, Positional, Switch

__all__ = ["Options", "run"]

_Many = tyro.conf.UseAppendAction


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Edit a scene of slots. The slots stay as they are; the edits are written beside them and applied when rendered.

    Render the slots first: it prints the number of each, from 1, and which one is the background. The order is: the
    script, then copies, moves and removals.

    Examples:
      smerf objects edit slots.safetensors -o edited.safetensors --remove 2
      smerf objects edit slots.safetensors -o edited.safetensors --move "1 0.5 0 0" --copy other.safetensors:3
    """

    slots: Positional[Annotated[Path, tyro.conf.arg(metavar="SLOTS")]]
    """File that encode or edit wrote."""
    output: Output
    """File of slots to write; its operations go to the same name with .json as well."""
    script: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Operations as JSON, such as the .json of another edit."""
    remove: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SLOT"), _Many] = ()
    """Remove a slot; may be repeated."""
    move: Annotated[tuple[str, ...], tyro.conf.arg(metavar='"SLOT X Y Z [DEGREES]"'), _Many] = ()
    """Move a slot by x y z in world units, after rotating it about the vertical through the origin; may be repeated."""
    copy: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE:SLOT"), _Many] = ()
    """Copy a slot from another file of the same model; it takes the next number. May be repeated."""
    undo: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """First take back the last N operations that the file holds."""
    overwrite: Switch[bool] = False
    """Replace a file that exists."""


def run(options: Options) -> int:
    """Write the edited slots and print where they are."""
    import dataclasses

    from smerf.cli.objects.parts import refuse_existing
    from smerf.engine.files import write_json
    from smerf.errors import UsageError
    from smerf.objects.editing.operations import apply_operations
    from smerf.objects.editing.slots import load_slots, save_slots

    refuse_existing(options.output, options.overwrite)
    if options.output.suffix != ".safetensors":
        raise UsageError(f"{options.output}: give a name ending in .safetensors")
    saved = load_slots(options.slots)
    if not 0 <= options.undo <= len(saved.operations):
        raise UsageError(f"--undo {options.undo}: the file holds {len(saved.operations)} operations")
    kept = saved.operations[: len(saved.operations) - options.undo]
    new = [*_read_script(options.script), *map(_copy, options.copy), *map(_move, options.move)]
    new += [{"op": "remove", "slot": slot} for slot in options.remove]
    if not new and not options.undo:
        raise UsageError("give --remove, --move, --copy, --script or --undo")
    operations = tuple(
        _relative(op, options.output.parent, options.slots.parent, op in kept) for op in (*kept, *new)
    )
    edited = dataclasses.replace(saved, operations=operations)
    scene = apply_operations(edited, options.output.parent)
    save_slots(edited, options.output)
    write_json(options.output.with_suffix(".json"), list(operations))
    print(
        f"slots: {options.output} ({len(scene.numbers)} left after {len(operations)} operations: numbers "
        f"{', '.join(map(str, scene.numbers))})\nnext:  smerf objects render {options.output} -o images"
    )
    return 0


def _read_script(path: Path | None) -> list[dict[str, Any]]:
    from smerf.engine.files import read_json
    from smerf.errors import InvalidDataError

    if path is None:
        return []
    operations = read_json(path)
    if not isinstance(operations, list):
        raise InvalidDataError(f"{path}: is not a list of operations")
    return operations


def _copy(text: str) -> dict[str, Any]:
    from smerf.errors import UsageError

    name, _, slot = text.rpartition(":")
    if not name or not slot.isdigit():
        raise UsageError(f"--copy {text}: write it as FILE:SLOT, for example other.safetensors:3")
    return {"op": "copy", "from": name, "slot": int(slot)}


def _move(text: str) -> dict[str, Any]:
    from smerf.errors import UsageError

    words = text.replace(",", " ").split()
    try:
        slot, numbers = int(words[0]), [float(word) for word in words[1:]]
        if len(numbers) not in (3, 4):
            raise ValueError
    except (ValueError, IndexError):
        raise UsageError(f'--move {text!r}: write it as "SLOT X Y Z" or "SLOT X Y Z DEGREES"') from None
    operation: dict[str, Any] = {"op": "move", "slot": slot, "translate": numbers[:3]}
    return operation | ({"turn": numbers[3]} if numbers[3:] else {})


def _relative(operation: Any, folder: Path, old_folder: Path, is_kept: bool) -> Any:
    """Name other files from the folder of the output: there, they are looked for."""
    import os

    if not isinstance(operation, dict) or operation.get("op") != "copy" or "from" not in operation:
        return operation
    place = (old_folder if is_kept else Path()) / str(operation["from"])
    return operation | {"from": Path(os.path.relpath(place.resolve(), folder.resolve())).as_posix()}
