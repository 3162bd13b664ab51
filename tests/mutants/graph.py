"""Which files a file imports, found in the text, at whatever depth the statement stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path


class Graph:
    """The imports among the files under ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.direct = cache(self._direct)
        self.digest = cache(self._digest_of)

    def _direct(self, file: Path) -> frozenset[Path]:
        """The files that this one imports, with the packages they lie in."""
        found: set[Path] = set()
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found.update(self._files(alias.name))
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.update(self._files(node.module))
                for alias in node.names:
                    found.update(self._files(f"{node.module}.{alias.name}"))
        return frozenset(found - {file})

    def _files(self, module: str) -> Iterator[Path]:
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            place = self._root.joinpath(*parts[:depth])
            for file in (place / "__init__.py", place.with_suffix(".py")):
                if file.is_file():
                    yield file

    def behind(self, file: Path) -> set[Path]:
        """The file, all that it imports, and all that those import."""
        found: set[Path] = set()
        waiting = [file, *self._conftests(file)]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting.extend(self.direct(one))
        return found

    def _conftests(self, file: Path) -> Iterator[Path]:
        for folder in file.parents:
            if (folder / "conftest.py").is_file():
                yield folder / "conftest.py"
            if folder == self._root:
                return

    def key(self, file: Path, folder: str) -> str:
        """Changes when anything behind the file does that lies in this folder."""
        names = ((one.relative_to(self._root), one) for one in self.behind(file))
        parts = [f"{name} {self.digest(one)}" for name, one in names if name.parts[0] == folder]
        return sha256("\n".join(sorted(parts)).encode()).hexdigest()

    def _digest_of(self, file: Path) -> str:
        return sha256(file.read_bytes()).hexdigest()
