"""The root of the error tree."""

from __future__ import annotations

from typing import ClassVar, Self


class SigmgrError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"
    #: The class has a default; one error may have a better one.
    advice: str = "Look into the log for the same time."

    def __init__(self, text: str = "", *, retry_after: int | None = None, advice: str = "") -> None:
        self.text = text or (type(self).__doc__ or "").strip()
        self.retry_after = retry_after
        if advice:
            self.advice = advice
        super().__init__(self.text)

    def anew(self) -> Self:
        """The same error as a new one: one that is raised twice drags the first traceback along."""
        other = type(self).__new__(type(self), *self.args)
        vars(other).update(vars(self))
        return other
