"""The project's own files, as the architecture tests read them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def modules() -> list[Path]:
    """Every Python file of the package."""
    return sorted((ROOT / "sigmgr").rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=name(path))


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports, at whatever depth the statement stands."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def tracked() -> list[Path]:
    """Every file that is in the repository or about to be; of an unpacked archive, every file."""
    listed = subprocess.run(
        # The checkout may belong to another user than the one who tests.
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-c", "-o", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        found = [ROOT / line for line in listed.stdout.split("\0") if line]
    else:
        built = {".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
        found = [path for path in ROOT.rglob("*") if not built & {*path.relative_to(ROOT).parts}]
    return sorted({path for path in found if path.is_file()})
