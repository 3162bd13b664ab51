"""A reader's position in the numbered events of an app."""

from __future__ import annotations

from typing import NamedTuple


class Cursor(NamedTuple):
    """All events up to ``number`` are read. The id of the ``feed`` changes when it is switched on
    and when the database is restored; then the same numbers mean other events."""

    feed: str
    number: int
