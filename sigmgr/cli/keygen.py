"""``sigmgr keygen``: a new signing key in a file, without any service.

Rules: the private file is readable by its owner only from its first byte on, and an
existing file is never replaced unasked: a lost signing key cannot be made again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sigmgr.cli import formats, output
from sigmgr.cli.frame import command_app

app = command_app("Make a signing key.")


@app.command("keygen")
def keygen(
    format: formats.Format,  # noqa: A002
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the secret key goes (mode 0600).")
    ],
    curve: formats.Curve = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that exist. Lost keys stay lost.")
    ] = False,
) -> None:
    """Make a signing key in a file.

    Where the format has a public half, that is written beside it, as FILE.pub.

    \b
    Examples:
      sigmgr keygen --format v1 --out app.pem
      sigmgr keygen --format v1 --curve secp256k1 --out old-app.pem
      sigmgr keygen --format v2 --out secret.txt
    """
    from sigmgr.keys.keychain import generate

    form = formats.chosen(format, curve)
    if not out.name:
        raise output.Misuse(f"{out} is no ordinary file", "Name a file with --out.")
    material = generate(format, curve)
    public, public_pem = out.with_name(out.name + ".pub"), form.keys.signer(material).public_pem
    files = [(out, material.rstrip(b"\n") + b"\n", 0o600)]
    if public_pem:
        files.append((public, public_pem, 0o644))
    _refuse_existing([path for path, _, _ in files], force)
    for path, content, mode in files:
        _write(path, content, mode, force)
    output.print_line(f"wrote {' and '.join(str(path) for path, _, _ in files)}")
    output.note(form.hints.made_file.format(private=out, public=public))


def _refuse_existing(paths: list[Path], force: bool) -> None:
    for path in paths:
        with _reported(path):
            there = path.lstat().st_mode if os.path.lexists(path) else None
        if there is not None and not stat.S_ISREG(there):
            raise output.Misuse(f"{path} is no ordinary file", "Name a file with --out.")
        if there is not None and not force:
            raise output.Misuse(
                f"{path} exists already", "Choose another --out, or --force to replace it."
            )


def _write(path: Path, content: bytes, mode: int, force: bool) -> None:
    """Beside the target first, then over it: no half-written key, no moment of wide access.
    Without ``force`` the target is made here, so that it is nobody else's."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with _reported(path):
        if not force:
            os.close(os.open(path, new, mode))
        handle = os.open(beside, new, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink()
            if not force:
                path.unlink()
            raise


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turns errors of the system about a path into errors of the command line."""
    try:
        yield
    except OSError as error:
        raise output.Misuse(
            f"{path} cannot be written: {error.strerror}", "Choose a place that you may write to."
        ) from None
