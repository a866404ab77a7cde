"""Join a page, its styles, its ES modules and its files into one file, which opens from ``file://``."""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import re
from pathlib import Path

__all__ = ["allow_inline_scripts", "bundle_modules", "single_page"]

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "(\.{1,2}/[\w./]+)";\n', re.MULTILINE)
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r'<link rel="stylesheet" href="\./([\w.]+)">')
_MODULE = re.compile(r'<script type="module" src="\./([\w./]+)"></script>\n')
_EXPORT = re.compile(r"^export ((?:async )?function|class|const) ([\w$]+)", re.MULTILINE)


def bundle_modules(root: Path, entry: str, replaced: dict[str, str] | None = None) -> str:
    """Return one script that runs the module ``entry`` with all that it imports.

    Args:
        root: Folder of the modules.
        entry: Name of the first module below it, such as ``slots/main.js``.
        replaced: Texts that take the place of files, by their names below ``root``.

    Raises:
        OSError: If a module is missing.
    """
    names: dict[str, str] = {}
    parts: list[str] = []

    def visit(name: str) -> str:
        if name in names:
            return names[name]
        names[name] = "module_" + re.sub(r"\W", "_", name.removesuffix(".js"))
        text = (replaced or {}).get(name) or (root / name).read_text(encoding="utf-8")

        def take(match: re.Match[str]) -> str:
            module = visit(posixpath.normpath(posixpath.join(posixpath.dirname(name), match[2])))
            return f"const {match[1]} = {module};\n"

        text = _IMPORT.sub(take, text)
        offered = ", ".join(match[2] for match in _EXPORT.finditer(text))
        text = _EXPORT.sub(r"\1 \2", text)
        parts.append(f"const {names[name]} = (() => {{\n{text}return {{ {offered} }};\n}})();\n")
        return names[name]

    visit(entry)
    return '"use strict";\n' + "".join(parts)


def single_page(
    page: str, root: Path, replaced: dict[str, str], embedded: dict[str, bytes], beside: str = ""
) -> str:
    """Return a page of the viewer as one file.

    Args:
        page: The page, which names its styles and its first module.
        root: Folder of styles and modules.
        replaced: Texts that take the place of modules, by their names below ``root``.
        embedded: Files that the page reads, by the names that it reads them by.
        beside: Elements to put before its scripts.
    """
    module = _MODULE.search(page)
    assert module is not None
    style = lambda match: f"<style>\n{(root / match[1]).read_text(encoding='utf-8')}</style>"  # noqa: E731
    page = _STYLE.sub(style, _MODULE.sub("", page))
    files = {name: base64.b64encode(data).decode() for name, data in embedded.items()}
    scripts = (
        f'{beside}<script type="application/json" id="smerf-files">{json.dumps(files)}</script>\n<script>\n'
        'globalThis.smerfEmbeddedFiles = JSON.parse(document.getElementById("smerf-files").textContent);\n'
        f"{bundle_modules(root, module[1], replaced)}</script>\n</body>"
    )
    return allow_inline_scripts(page.replace("</body>", scripts))


def allow_inline_scripts(page: str) -> str:
    """Return a page of one file whose Content-Security-Policy names the hashes of its scripts, and no others."""
    digests = (hashlib.sha256(text.encode()).digest() for text in _INLINE.findall(page))
    sources = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return re.sub(r"script-src [^;\"]*", f"script-src {sources}", page, count=1)
