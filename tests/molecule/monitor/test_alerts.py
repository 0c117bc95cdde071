"""An alert that fires in Prometheus reaches those who are to be told, and nobody else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://monitors"]
PAGES = {"MoleculePage", "MoleculePageWithoutSlo"}
TICKETS = {"MoleculeTicketOfAnotherSlo", "MoleculeTicketWithoutSlo"}
Calls = list[dict[str, Any]]


def calls(host: Host) -> Calls:
    return [json.loads(line) for line in host.run("cat /run/molecule-alerts.jsonl").stdout.splitlines()]


def wait_for(host: Host, wanted: Callable[[Calls], bool], seconds: float = 30) -> Calls:
    deadline = time.monotonic() + seconds
    while not wanted(found := calls(host)):
        if time.monotonic() > deadline:
            log = host.run("journalctl --no-pager --output=cat --lines=15 --unit=prometheus-alertmanager").stdout
            pytest.fail(f"not told within {seconds} s; calls: {json.dumps(found)[:2000]}\n{log}")
        time.sleep(0.5)
    return found


def told_pager(found: Calls) -> set[str]:
    bodies = [call["body"] for call in found if call["path"] == "/pager-token"]
    return {alert["labels"]["alertname"] for body in bodies for alert in body["alerts"]}


def told_team(found: Calls, names: Iterable[str]) -> set[str]:
    titles = [call["body"]["attachments"][0]["title"] for call in found if call["path"] == "/team-token"]
    return {name for name in names if any(name in title.split() for title in titles)}


def test_pages_reach_the_webhook_with_what_they_say(host: Host) -> None:
    found = wait_for(host, lambda found: told_pager(found) >= PAGES)
    assert told_pager(found) == PAGES
    alerts = [alert for call in found if call["path"] == "/pager-token" for alert in call["body"]["alerts"]]
    page = next(alert for alert in alerts if alert["labels"]["alertname"] == "MoleculePage")
    assert page["annotations"]["summary"] == "small burns at 1"
    assert page["labels"]["service"] == "molecule"
    assert "monitor" not in page["labels"], "what two monitors see would be two alerts"


def test_pages_and_tickets_reach_the_team_as_slack_messages(host: Host) -> None:
    found = wait_for(host, lambda found: told_team(found, PAGES | TICKETS) == PAGES | TICKETS)
    messages = [call["body"]["attachments"][0] for call in found if call["path"] == "/team-token"]
    message = next(one for one in messages if "MoleculePage" in one["title"].split())
    assert message["title"] == "FIRING page MoleculePage (1)"
    assert message["text"].splitlines() == [
        "small burns at 1",
        "Nothing to be done",
        "docs/runbooks/slo-burn.md",
    ]


def test_tickets_reach_the_mailbox(host: Host) -> None:
    def mails(found: Calls) -> list[str]:
        return [call["body"] for call in found if call["path"] == "mailto:team@example.org"]

    found = wait_for(host, lambda found: len(mails(found)) >= len(TICKETS))
    subjects = {line for mail in mails(found) for line in mail.splitlines() if line.lower().startswith("subject: ")}
    assert subjects == {f"Subject: FIRING ticket {name} (1)" for name in TICKETS}


def test_the_page_of_an_slo_holds_back_its_ticket_only(host: Host) -> None:
    found = wait_for(host, lambda found: told_team(found, TICKETS) == TICKETS)
    assert not told_team(found, ["MoleculeTicketOfTheSameSlo"])
    known = json.loads(host.check_output("curl --silent --fail http://127.0.0.1:9093/api/v2/alerts"))
    held = {alert["labels"]["alertname"] for alert in known if alert["status"]["inhibitedBy"]}
    assert held == {"MoleculeTicketOfTheSameSlo"}


def test_the_dead_man_is_called_again_within_the_minute_and_nobody_else_hears_of_it(host: Host) -> None:
    def heard(found: Calls) -> int:
        return sum(call["path"] == "/dead-man-token" for call in found)

    before = heard(wait_for(host, lambda found: heard(found) > 0))
    found = wait_for(host, lambda found: heard(found) > before, seconds=75)
    paths = {call["path"] for call in found if "Watchdog" in json.dumps(call)}
    assert paths == {"/dead-man-token"}
