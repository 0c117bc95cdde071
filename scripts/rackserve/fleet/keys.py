"""API keys as operators speak of them: made, listed, and the rules of rotation. Pure but for the randomness of a key."""

import datetime
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackserve.definition.problem import Problem

# 32 random bytes: guessing is hopeless, so a plain SHA-256 is enough to store.
_RANDOM_BYTES = 32
_LONGEST_ID = 40


class KeyRefused(Exception):
    """A rule says no; the text says which and what to do. `exit_code`: 2 for a wrong name, 4 for a guard."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class NewKey:
    """The only place where a key stands in the clear: shown once, then forgotten."""

    id: str
    key: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r})"


@dataclass(frozen=True)
class Listed:
    tenant: str
    id: str
    lane: str
    state: str
    expires: str | None
    sha256: str


def make(key_id: str) -> NewKey:
    return NewKey(key_id, f"sk-{secrets.token_urlsafe(_RANDOM_BYTES)}")


def tenant_of(plan: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    tenants: Mapping[str, Any] = plan["tenants"]
    if name not in tenants:
        raise KeyRefused(f"there is no tenant {name}. Known: {', '.join(sorted(tenants))}.")
    tenant: Mapping[str, Any] = tenants[name]
    return tenant


def free_id(tenant: str, taken: Sequence[str]) -> str:
    """TENANT-N with the first number above all that are there, so that an id in an old log names one key only."""
    numbers = [int(last) for head, _, last in (one.rpartition("-") for one in taken) if head and last.isdigit()]
    number = str(max(numbers, default=0) + 1)
    return f"{tenant[: _LONGEST_ID - 1 - len(number)]}-{number}"


def is_expired(expires: str | None, today: datetime.date) -> bool:
    """`expires` is the first day (UTC) on which the key is refused."""
    return expires is not None and datetime.date.fromisoformat(expires) <= today


def listed(plan: Mapping[str, Any], today: datetime.date, only: str | None = None) -> list[Listed]:
    if only is not None:
        tenant_of(plan, only)
    found = []
    for name, tenant in sorted(plan["tenants"].items()):
        for key in tenant["keys"] if only in (None, name) else ():
            expires = key.get("expires")
            state = "expired" if is_expired(expires, today) else "expires" if expires else "valid"
            found.append(Listed(name, key["id"], key.get("lane") or tenant["lane"], state, expires, key["sha256"]))
    return found


def expired_warnings(plan: Mapping[str, Any], today: datetime.date) -> list[Problem]:
    """Beside the validator, which knows no clock."""
    return [
        Problem(
            ("service_tenants", one.tenant, "keys"),
            f"the key {one.id} is refused since {one.expires} (UTC)",
            remedy=f"remove it with: scripts/keys revoke {one.tenant} {one.id}",
            severity="warning",
        )
        for one in listed(plan, today)
        if one.state == "expired"
    ]


def key_to_replace(plan: Mapping[str, Any], tenant: str, wanted: str | None, today: datetime.date) -> str:
    """Which key a rotation puts an end to. Refuses a second rotation while one is under way."""
    keys = [one for one in listed(plan, today, tenant) if one.state != "expired"]
    ending = [one for one in keys if one.state == "expires"]
    lasting = [one.id for one in keys if one.state == "valid"]
    if wanted is not None:
        if wanted not in [one.id for one in keys]:
            known = ", ".join(one.id for one in keys) or "none"
            raise KeyRefused(f"{tenant} has no valid key {wanted}. Known: {known}.")
        if wanted in lasting:
            return wanted
    if ending:
        raise KeyRefused(
            f"a rotation is under way: {ending[0].id} of {tenant} expires on {ending[0].expires}. "
            f"Wait, or end it now with: scripts/keys revoke {tenant} {ending[0].id}",
            4,
        )
    if len(lasting) != 1:
        raise KeyRefused(
            f"{tenant} has {len(lasting)} lasting keys ({', '.join(lasting) or 'make one with: keys new'}). "
            "Say which one to replace with --key ID.",
            4 if lasting else 2,
        )
    return lasting[0]
