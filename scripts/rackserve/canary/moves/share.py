"""How a pool's requests are split, in thousandths. Pure."""

import re
from dataclasses import dataclass

WHOLE = 1000
# Half is load parity of two engines; more than that is no trial any more.
MOST_CANARY = 500
_VALUE = re.compile(r"(?P<canary>\d{1,4})/(?P<baseline>\d{1,4})")


@dataclass(frozen=True)
class Share:
    """`canary`, `baseline`: of a thousand requests of the pool. The rest is stable's."""

    canary: int
    baseline: int

    @property
    def text(self) -> str:
        """As it stands in the map."""
        return f"{self.canary}/{self.baseline}"

    def refusal(self, promoting: bool) -> str:
        """Why nobody gives this share; empty: it may be given. `promoting`: engine by engine the release takes the whole traffic."""
        if min(self.canary, self.baseline) < 0:
            return f"a share of {min(self.canary, self.baseline)} thousandths; 0 or more"
        if self.canary > MOST_CANARY and not promoting:
            return f"{self.canary / 10:g} % for the canary; at most {MOST_CANARY / 10:g} %, which is load parity of two"
        if self.canary + self.baseline > WHOLE:
            return f"{self.canary / 10:g} % and {self.baseline / 10:g} % are more than all requests"
        return ""

    def __str__(self) -> str:
        if self == NONE:
            return "0"
        return f"canary {self.canary / 10:g} %, baseline {self.baseline / 10:g} %"


NONE = Share(0, 0)


def share_of(value: str | None) -> Share | None:
    """From the map's value; no entry is no share. None: it has no form that anybody here writes."""
    if value is None:
        return NONE
    match = _VALUE.fullmatch(value)
    return Share(int(match["canary"]), int(match["baseline"])) if match else None


def shown(value: str | None) -> str:
    """For people, also what somebody wrote by hand."""
    share = share_of(value)
    return str(share) if share is not None else f"{value!r}, which is no share"
