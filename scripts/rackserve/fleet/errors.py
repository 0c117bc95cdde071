"""The four ways in which a host or its balancer does not do what it was asked, and what every command makes of them."""


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


class FleetError(Exception):
    """Says which host, what it was asked, and the first line of what came back. `exit_code` is the command's."""

    exit_code = 1
    happened = "failed"

    def __init__(self, address: str, command: str, reply: str = "", remedy: str = "") -> None:
        self.address, self.command, self.reply, self.remedy = address, command, first_line(reply), remedy
        parts = [f"{address}: {self.happened}: {command}"]
        if self.reply:
            parts.append(f"it said: {self.reply[:300]}")
        super().__init__("; ".join(parts) + (f". {remedy}" if remedy else ""))


class UnreachableError(FleetError):
    """ssh or the socket gave no way in: nothing was done there."""

    exit_code = 3
    happened = "could not be reached"


class TimedOutError(FleetError):
    """No answer before the deadline: it is not known whether it was done."""

    exit_code = 3
    happened = "did not answer in time"


class RefusedError(FleetError):
    """It was understood and not done."""

    happened = "refused"


class NonsenseError(FleetError):
    """The answer has a form that nobody here knows, or a value that was just written reads differently."""

    happened = "answered something unexpected"
