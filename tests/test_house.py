"""The rules of the house, checked on the text: who may import whom, how long a file may be, what it may name."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from tests.helpers.imports import ROOT, circles, graph, loaded_by, modules, read_imports, resolve, room

FLOORS = [
    {"errors", "engine", "kernels", "data"},
    {"capture"},
    {"fields"},
    {"scene"},
    {"render", "viewer"},
    {"teacher"},
    {"student"},
    {"baking"},
    {"vision", "objects", "prepare", "evaluation", "export"},
    {"pipeline"},
    {"cli"},
    {"__main__", ""},
]
"""From the ground up. A room imports from its own floor and the floors below; the last is the package's own face."""
HEAVY = {"torch", "scipy", "PIL", "imageio", "trimesh", "OpenGL", "glfw"}
SUFFIXES = (
    "py",
    "cpp",
    "cu",
    "h",
    "cuh",
    "js",
    "mjs",
    "css",
    "html",
    "frag",
    "vert",
    "glsl",
    "md",
    "toml",
    "yaml",
)
MAX_LINES = 500
MAX_COLUMNS = 130
"""Of any source file; ruff and clang-format keep Python and C++ below this by themselves."""


def texts(*suffixes):
    """Yield every source file with its lines."""
    for folder in ("smerf", "cuda", "viewer", "data", "tests", "benchmarks", "docs"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix[1:] in suffixes and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT), path.read_text(encoding="utf-8").splitlines()


def floor(name):
    return next(height for height, rooms in enumerate(FLOORS) if name in rooms)


def upward(imports):
    """Return a line for each import of a higher floor."""
    return [
        f"{each.importer}:{each.line} imports {each.name}"
        for each in imports
        if (target := resolve(each.name))
        and floor(room(target)) > floor(room(each.importer))
        # The version is all that a room may take from the package's face.
        and each.name not in ("smerf", "smerf.__version__")
    ]


def fail_on(offenders, rule):
    assert not offenders, rule + ":\n  " + "\n  ".join(offenders)


def test_every_room_has_its_floor():
    rooms = {room(name) for name in modules()}
    fail_on(sorted(rooms - set().union(*FLOORS)), "give the new room a floor in FLOORS")


def test_imports_go_down_only():
    fail_on(
        upward(graph()), "imports of a higher floor (in functions, for types and in strings count as well)"
    )


def test_the_rules_see_imports_wherever_they_hide():
    source = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..student import loss\n"
        "def f(x):\n    import smerf.cli.main\n    import_module(f'smerf.export.{x}')\n"
        "TABLE = {'bake': 'smerf.baking'}\nfrom . import model\nfrom smerf.errors import SmerfError\n"
    )
    found = upward(read_imports(source, "smerf.teacher.trainer"))
    assert [line.split()[-1] for line in found] == [
        "smerf.student.loss", "smerf.cli.main", "smerf.export", "smerf.baking",
    ]  # fmt: skip


def test_no_circle_between_rooms_nor_between_files():
    pairs = [(each.importer, target) for each in graph() if (target := resolve(each.name))]
    faces = {"smerf", "smerf.__main__"}
    rooms = circles((room(a), room(b)) for a, b in pairs if not faces & {a, b})
    files = circles(
        (each.importer, target) for each in graph() if each.at_top and (target := resolve(each.name))
    )
    fail_on([" <-> ".join(group) for group in [*rooms, *files]], "circles")


def test_scene_and_viewer_stand_without_torch():
    heavy = [
        f"{name} loads torch" for part in ("smerf.scene", "smerf.viewer")
        for name, loaded in loaded_by(part).items() if "torch" in loaded
    ]  # fmt: skip
    direct = [
        f"{each.importer}:{each.line} imports {each.name}"
        for each in graph()
        if room(each.importer) in ("scene", "viewer") and each.name.split(".")[0] == "torch"
    ]
    fail_on(heavy + direct, "scene/ and viewer/ never import torch")


def test_the_viewer_knows_the_scene_alone():
    fail_on(
        [
            f"{each.importer}:{each.line} imports {each.name}"
            for each in graph()
            if room(each.importer) == "viewer"
            and (target := resolve(each.name))
            and room(target) not in ("viewer", "scene", "errors")
        ],
        "viewer/ imports smerf.scene and smerf.errors alone",
    )


def test_the_command_line_is_light():
    wrong = [
        f"{name} loads {', '.join(sorted(loaded & (HEAVY | {'numpy'})))}"
        for part in ("smerf.cli", "smerf.__main__")
        for name, loaded in loaded_by(part).items()
        if loaded & (HEAVY | {"numpy"})
    ]
    fail_on(wrong, "modules of the command line import heavy packages at the top")
    code = (
        "import sys; from smerf.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not (HEAVY | {"numpy", "tyro", "rich", "yaml"}) & set(done.stderr.split())


def test_no_file_is_too_long_and_no_line_too_wide():
    code = [suffix for suffix in SUFFIXES if suffix not in ("md", "toml", "yaml", "html")]
    long = [f"{path}: {len(lines)} lines" for path, lines in texts(*code) if len(lines) > MAX_LINES]
    wide = [
        f"{path}:{number}: {len(line)} columns"
        for path, lines in texts(*code)
        for number, line in enumerate(lines, 1)
        if len(line) > MAX_COLUMNS and "http" not in line
    ]
    fail_on(long + wide, f"more than {MAX_LINES} lines or {MAX_COLUMNS} columns")


def test_no_path_of_one_machine():
    pattern = re.compile(r"(?<![\w.])/(?:work|root|home/[a-z])[/\w]")
    fail_on(
        [
            f"{path}:{number}: {line.strip()}"
            for path, lines in texts(*SUFFIXES)
            for number, line in enumerate(lines, 1)
            if pattern.search(line) and path != Path("tests/test_house.py")
        ],
        "paths of one machine",
    )


def test_what_a_module_offers_exists():
    wrong = []
    for name, path in modules().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        offered = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                defined |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                bound = {one.id for each in targets for one in ast.walk(each) if isinstance(one, ast.Name)}
                defined |= bound
                if "__all__" in bound and isinstance(node.value, ast.List | ast.Tuple):
                    offered = [item.value for item in node.value.elts if isinstance(item, ast.Constant)]
        submodules = {other.rpartition(".")[2] for other in modules() if other.rpartition(".")[0] == name}
        missing = set(offered) - defined - submodules
        if missing and "__getattr__" not in defined:
            wrong.append(f"{name}: {', '.join(sorted(missing))}")
    fail_on(wrong, "__all__ names what is not there")
