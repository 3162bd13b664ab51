"""The root of the error tree."""

from __future__ import annotations

from typing import ClassVar


class SigmgrError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"
    advice: ClassVar[str] = "Look into the log for the same time."
    retryable: ClassVar[bool] = False

    def __init__(self, text: str = "", *, retry_after: int | None = None) -> None:
        self.text = text or (type(self).__doc__ or "").strip()
        self.retry_after = retry_after
        super().__init__(self.text)
