"""``python -m sigmgr`` is the ``sigmgr`` command."""

from __future__ import annotations

from sigmgr.cli import main

main()
