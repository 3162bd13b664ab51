"""The answer to a stream that cannot be opened: :mod:`sigmgr.model.problem` for its one path."""

from __future__ import annotations

from sigmgr.model import errors
from sigmgr.model.problem import Header
from sigmgr.model.problem import problem as problem_at

__all__ = ["Header", "problem"]


def problem(error: errors.SigmgrError) -> tuple[int, list[Header], bytes]:
    """Status, headers and body."""
    return problem_at(error, "/v1/stream")
