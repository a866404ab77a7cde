"""The import graph of the repository, read from the sources without running them."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# viewer/ and data/ are installed as smerf.viewer and smerf.data.
FOLDERS = {"smerf": ROOT / "smerf", "smerf.viewer": ROOT / "viewer", "smerf.data": ROOT / "data"}
_DOTTED = re.compile(r"smerf(\.[A-Za-z_]\w*)+\.?")


@dataclass(frozen=True)
class Import:
    """One import: the file's module, what it names, where, and whether it runs when the file is imported."""

    importer: str
    name: str
    line: int
    at_top: bool


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((package, *parts))] = path
    return found


@functools.cache
def graph() -> tuple[Import, ...]:
    """Return every import of the package."""
    return tuple(
        each
        for name, path in modules().items()
        for each in read_imports(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
    )


def read_imports(source: str, module: str, is_package: bool = False) -> list[Import]:
    """Return the imports of a source text, those in functions, type checks and strings included."""
    package = module if is_package else module.rpartition(".")[0]
    return list(_walk(ast.parse(source), module, package, at_top=True))


def _walk(node: ast.AST, module: str, package: str, at_top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = at_top
        is_type_check = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if is_type_check or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside = False
        for name in _named(child, package):
            # A name in a string is imported when it is used, not before.
            top = at_top and isinstance(child, ast.Import | ast.ImportFrom)
            yield Import(module, name, getattr(child, "lineno", 0), top)
        if not isinstance(child, ast.JoinedStr):
            yield from _walk(child, module, package, inside)


def _named(node: ast.AST, package: str) -> Iterable[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parent = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parent, *filter(None, [node.module])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
        first = str(node.values[0].value)
        return [first.rstrip(".")] if _DOTTED.fullmatch(first) else []
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED.fullmatch(node.value):
        name = node.value.rstrip(".")
        return [name] if resolve(name) not in (None, "smerf") else []
    return []


def resolve(name: str) -> str | None:
    """Return the module that an imported name lies in, or None if it is not ours."""
    parts = name.split(".")
    while parts and ".".join(parts) not in _known():
        parts.pop()
    return ".".join(parts) or None


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(modules())


def room(module: str) -> str:
    """Return the folder or file directly under smerf/ that a module belongs to; "" for smerf itself."""
    return (module.split(".") + [""])[1]


def circles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the strongly connected groups of more than one node, sorted."""
    onward: dict[str, set[str]] = {}
    for start, end in edges:
        if start != end:
            onward.setdefault(start, set()).add(end)
            onward.setdefault(end, set())
    reach = {node: _reachable(node, onward) for node in onward}
    groups = {
        tuple(sorted({node} | {other for other in reach[node] if node in reach[other]})) for node in onward
    }
    return sorted(list(group) for group in groups if len(group) > 1)


def _reachable(start: str, onward: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for node in onward.get(waiting.pop(), ()):
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


def loaded_by(prefix: str) -> dict[str, set[str]]:
    """Return, for every module under a prefix, the top-level packages that importing it loads."""
    onward: dict[str, set[str]] = {name: set() for name in _known()}
    outside: dict[str, set[str]] = {name: set() for name in _known()}
    for each in graph():
        if each.at_top:
            target = resolve(each.name)
            if target:
                onward[each.importer] |= set(_with_parents(target))
            else:
                outside[each.importer].add(each.name.split(".")[0])
    return {
        name: set().union(*(outside[one] for one in {name, *_reachable(name, onward)}))
        for name in sorted(_known())
        if name == prefix or name.startswith(f"{prefix}.")
    }


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [name for i in range(1, len(parts) + 1) if (name := ".".join(parts[:i])) in _known()]
