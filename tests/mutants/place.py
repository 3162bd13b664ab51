"""Where the code and its tests lie, and which of both are meant."""

from __future__ import annotations

import fnmatch
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: What a sample is drawn from.
SAMPLED = ("model/*", "flow/*", "push/*", "cache/*", "http/auth*")
#: Tests of whole processes and of months, of the text itself, and of SQL: slow, or of other code.
LEFT_OUT = (
    "process/*",
    "simulation/*",
    "mutants/*",
    "architecture/*",
    "contract/test_store*",
    "contract/test_*_plan.py",
    "contract/test_migrations.py",
    "test_servers.py",
)


@dataclass(frozen=True)
class Place:
    """``package`` and ``tests`` are folders below ``root``."""

    root: Path = ROOT
    package: str = "sigmgr"
    tests: str = "tests"

    @property
    def kept(self) -> Path:
        """What is remembered from one run to the next."""
        return self.root / ".mutants"

    def sampled(self) -> list[Path]:
        package = self.root / self.package
        return [one for one in self._code() if _matches(one.relative_to(package), SAMPLED)]

    def _code(self) -> list[Path]:
        return sorted((self.root / self.package).rglob("*.py"))

    def test_files(self) -> list[Path]:
        tests = self.root / self.tests
        found = sorted(tests.rglob("test_*.py"))
        return [one for one in found if not _matches(one.relative_to(tests), LEFT_OUT)]

    def changed(self, revision: str) -> list[Path]:
        """Files of the package that are not as they were then, new ones included."""
        listed = [
            _git(self.root, "diff", "--name-only", "--diff-filter=d", revision),
            _git(self.root, "ls-files", "--others", "--exclude-standard"),
        ]
        names = {name for text in listed for name in text.splitlines()}
        return [one for one in self._code() if self.name(one) in names]

    def file(self, path: Path) -> Path:
        """Raises ValueError for what is no module of the package."""
        found = path.resolve()
        if found not in self._code():
            raise ValueError(f"{path} is no module of {self.package}/")
        return found

    def name(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()

    def module(self, name: str) -> str:
        """``sigmgr.model.sig`` of ``sigmgr/model/sig.py``."""
        return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _matches(file: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(file.as_posix(), pattern) for pattern in patterns)


def _git(root: Path, *arguments: str) -> str:
    # The checkout may belong to another user than the one who runs this.
    command = ["git", "-c", "safe.directory=*", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"git: {done.stderr.strip().splitlines()[0]}")
    return done.stdout
