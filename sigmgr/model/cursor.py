"""A reader's place in the numbered events of an app."""

from __future__ import annotations

from typing import NamedTuple


class Cursor(NamedTuple):
    """All events up to ``number`` are read. Numbers of another ``feed`` mean other events: the
    feed's id changes when it is switched on and when the database was restored."""

    feed: str
    number: int
