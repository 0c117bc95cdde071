"""The two ways in which the lab says no."""


class LabError(Exception):
    """Something the operator can act on. Its text names place, value and remedy in one sentence."""

    exit_code = 1


class RefusedError(LabError):
    """Nothing was changed: this machine or the request does not allow it."""

    exit_code = 4


class UsageError(LabError):
    """The command was called in a wrong way, or its configuration cannot be read."""

    exit_code = 2
