"""The errors a user can meet: each says what was received and expected, and what to do about it."""

from __future__ import annotations


class BcsegError(Exception):
    """Base of every error this project raises on purpose.

    Attributes:
        message: what was received and what was expected, one line.
        hint: what to do, one line; a command where one helps.
        exit_code: what the command line exits with (2 wrong use or input, 3 a failed gate, 4 a live source that is
            gone, 1 the rest).
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SourceError(BcsegError):
    """A frame source cannot be opened or read."""

    exit_code = 2


class SourceLost(SourceError):
    """A live source is not there, or went away and did not come back in time; it may be there later."""

    exit_code = 4


class ModelError(BcsegError):
    """A model file or its passport is missing, damaged or not ours."""

    exit_code = 2


class BackendUnavailable(BcsegError):
    """The backend asked for cannot run on this machine."""

    exit_code = 2


class DataError(BcsegError):
    """A data set, an argument or an output place does not fit."""

    exit_code = 2


class ParityError(BcsegError):
    """A candidate does not say what its reference says: a failed gate."""

    exit_code = 3
