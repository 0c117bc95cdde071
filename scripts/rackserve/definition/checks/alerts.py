"""Checks of service_alerts: that those who are to be told can be reached. Addresses are secret and never shown."""

import re
from collections.abc import Iterator

from rackserve.definition.problem import Path, Problem
from rackserve.definition.read import Definition

_ADDRESS = re.compile(r"""https?://[^\s"'\\]+""")
# Names that the role alertmanager gives itself.
_RESERVED = ("nobody", "dead-man")


def names_are_unique(definition: Definition) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, receiver in enumerate(definition.service.alerts.receivers):
        path = ("service_alerts", "receivers", number, "name")
        if receiver.name in seen or receiver.name in _RESERVED:
            yield Problem(
                path,
                "is taken by an earlier receiver" if receiver.name in seen else "is a name that rackserve itself uses",
                f"each name once, and none of {', '.join(_RESERVED)}",
                "choose another name",
                f'"{receiver.name}"',
            )
        seen.add(receiver.name)


def mails_can_be_sent(definition: Definition) -> Iterator[Problem]:
    alerts = definition.service.alerts
    if not any(receiver.kind == "email" for receiver in alerts.receivers):
        return
    for key, meaning in (("smtp_host", "HOST:PORT of a mail server"), ("smtp_from", "the sender's address")):
        if not getattr(alerts, key):
            yield Problem(
                ("service_alerts", key),
                "is missing, and a receiver is of kind email",
                meaning,
                "add it, or use a webhook",
            )


def addresses_are_some(definition: Definition) -> Iterator[Problem]:
    alerts = definition.service.alerts
    given: list[tuple[Path, str]] = [
        (("service_alerts", "receivers", number, "url"), receiver.url.get_secret_value())
        for number, receiver in enumerate(alerts.receivers)
        if receiver.url is not None
    ]
    if alerts.dead_man_url is not None:
        given.append((("service_alerts", "dead_man_url"), alerts.dead_man_url.get_secret_value()))
    for path, text in given:
        if not _ADDRESS.fullmatch(text):
            yield Problem(
                path,
                "is no address to call",
                "http:// or https://, without spaces, quotes and backslashes",
                "correct the vault variable that it names",
                "(hidden)",
            )
