"""The rules of the house: who may import whom, and how long a file may be. Checked on the text, not by
running.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "smerf"
# Each may import those before it. What is not listed (errors, config, runs) serves all of them.
ORDER = [
    "kernels",
    "fields",
    "capture",
    "teacher",
    "student",
    "baking",
    "scene",
    "render",
    "evaluation",
    "objects",
    "cli",
]
# Rays are made from a capture's cameras; baking writes a scene, and a scene draws itself through render.
ALLOWED = {("fields", "capture"), ("baking", "scene"), ("scene", "render")}
COMMON = {"errors", "runs", "config", "__init__", "__main__"}
SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))
TEXT = sorted(
    path
    for folder in ("smerf", "cuda", "viewer", "data", "tests", "benchmarks")
    for suffix in ("py", "cpp", "cu", "h", "cuh", "js", "css", "html", "frag", "vert", "glsl")
    for path in (ROOT / folder).rglob(f"*.{suffix}")
    if "__pycache__" not in path.parts
)


def imports(path, outside_functions=False):
    """Return the modules that a file imports, relative imports resolved; type-checking blocks left out."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if outside_functions and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = ""
                if child.level:
                    parts = list(path.relative_to(ROOT).with_suffix("").parts)
                    base = ".".join(parts[: len(parts) - child.level]) + ("." if child.module else "")
                name = base + (child.module or "")
                yield name
                yield from (f"{name}.{alias.name}" for alias in child.names)
            else:
                yield from walk(child)

    return set(walk(ast.parse(path.read_text(encoding="utf-8"))))


def part(module):
    """Return the folder of the package that a module belongs to, or None if it is not ours."""
    names = module.split(".")
    return names[1] if names[0] == "smerf" and len(names) > 1 else None


def owner(path):
    names = path.relative_to(PACKAGE).with_suffix("").parts
    return names[0]


def forbidden(mine, theirs):
    if mine in COMMON or theirs in COMMON or mine == theirs or theirs not in ORDER or mine not in ORDER:
        return False
    return ORDER.index(theirs) > ORDER.index(mine) and (mine, theirs) not in ALLOWED


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    wrong = sorted(
        name for name in imports(path) if (theirs := part(name)) and forbidden(owner(path), theirs)
    )
    assert not wrong, f"{path.relative_to(ROOT)} imports a later stage: {', '.join(wrong)}"


def test_what_serves_all_imports_no_stage_at_the_top():
    for path in SOURCES:
        if owner(path) in ("errors", "runs", "config", "__init__"):
            stages = {name for name in imports(path, outside_functions=True) if part(name) in ORDER}
            assert not stages, f"{path.relative_to(ROOT)} imports {stages}"


def test_the_rules_see_a_wrong_import(tmp_path):
    assert forbidden("teacher", "student") and forbidden("kernels", "fields") and forbidden("scene", "cli")
    assert not forbidden("cli", "teacher") and not forbidden("teacher", "runs")
    code = "from __future__ import annotations\nif x:\n    def f():\n        from ..student import loss\n"
    path = PACKAGE / "teacher" / "__init__.py"
    fake = type("Fake", (), {"read_text": lambda self, encoding: code, "relative_to": path.relative_to})()
    assert "smerf.student" in imports(fake)
    assert "smerf.student" not in imports(fake, outside_functions=True)


def test_every_folder_of_the_package_has_its_place_in_the_order():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders <= {*ORDER, *COMMON, "viewer", "data"}, "give the new folder a place in ORDER"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "viewer").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_viewer_never_imports_torch_nor_a_stage_before_the_scene(path):
    names = imports(path)
    assert not {name for name in names if name.split(".")[0] == "torch"}
    assert {part(name) for name in names if part(name)} <= {"scene", "capture", "render", "errors", "viewer"}


def test_importing_the_package_is_light():
    names = imports(PACKAGE / "__init__.py")
    assert all(name.split(".")[0] in ("__future__", "importlib", "typing") for name in names)


def test_the_command_line_imports_no_stage_at_the_top():
    for path in (PACKAGE / "cli").rglob("*.py"):
        heavy = {"torch", "numpy", "scipy", "PIL", "imageio", "yaml", "rich", "trimesh"}
        names = imports(path, outside_functions=True)
        assert not heavy & {name.split(".")[0] for name in names}, path.name
        assert not {part(name) for name in names} & {*ORDER[:-1]}, path.name


@pytest.mark.parametrize("path", TEXT, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_600_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_module_offers_exists(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined, offered = set(), []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            defined.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            defined |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {
                name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
            }
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                offered = [item.value for item in node.value.elts if isinstance(item, ast.Constant)]
    has_lazy = "__getattr__" in defined
    assert has_lazy or set(offered) <= defined, f"__all__ names {set(offered) - defined}"
