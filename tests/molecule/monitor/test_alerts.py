"""An alert that fires in Prometheus reaches those who are to be told, and nobody else."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://monitors"]
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


def told_pager(found: Calls) -> dict[str, dict[str, Any]]:
    bodies = [call["body"] for call in found if call["path"] == "/pager-token"]
    return {alert["labels"]["alertname"]: alert for body in bodies for alert in body["alerts"]}


def told_team(found: Calls) -> dict[str, dict[str, Any]]:
    messages = [call["body"]["attachments"][0] for call in found if call["path"] == "/team-token"]
    return {message["title"]: message for message in messages}


def told_mailbox(found: Calls) -> set[str]:
    mails = [call["body"] for call in found if call["path"] == "mailto:team@example.org"]
    return {line for mail in mails for line in mail.splitlines() if line.startswith("Subject: ")}


def test_a_page_reaches_the_webhook_with_what_it_says_and_a_ticket_does_not(host: Host) -> None:
    wait_for(host, lambda found: "FIRING ticket MoleculeTicket (1)" in told_team(found))
    told = told_pager(wait_for(host, lambda found: "MoleculePage" in told_pager(found)))
    assert told["MoleculePage"]["annotations"]["summary"] == "small burns at 1"
    assert told["MoleculePage"]["labels"]["service"] == "molecule"
    assert "monitor" not in told["MoleculePage"]["labels"], "what two monitors see would be two alerts"
    assert {alert["labels"]["severity"] for alert in told.values()} == {"page"}


def test_pages_and_tickets_reach_the_team_as_slack_messages(host: Host) -> None:
    wanted = {"FIRING page MoleculePage (1)", "FIRING ticket MoleculeTicket (1)"}
    told = told_team(wait_for(host, lambda found: set(told_team(found)) >= wanted))
    assert told["FIRING page MoleculePage (1)"]["text"].splitlines() == [
        "small burns at 1",
        "Nothing to be done",
        "docs/runbooks/slo-burn.md",
    ]


def test_a_ticket_reaches_the_mailbox_and_a_page_does_not(host: Host) -> None:
    subject = "Subject: FIRING ticket MoleculeTicket (1)"
    told = told_mailbox(wait_for(host, lambda found: subject in told_mailbox(found)))
    assert not [one for one in told if "page" in one]


def test_the_page_of_an_slo_holds_back_its_ticket_only(host: Host) -> None:
    """Posted, as both have to be new to Alertmanager; the names carry the run, so that nothing earlier is meant."""
    run = uuid.uuid4().hex[:8]

    def alert(name: str, severity: str, **labels: str) -> dict[str, Any]:
        return {"labels": {"alertname": f"{name}{run}", "severity": severity, **labels}}

    posted = [
        alert("Page", "page", slo=run, pool="small"),
        alert("PageWithoutSlo", "page", node="m12"),
        alert("Held", "ticket", slo=run, pool="small"),
        alert("OfAnother", "ticket", slo=f"{run}-other", pool="small"),
        alert("WithoutSlo", "ticket", node="m12"),
    ]
    url = "http://127.0.0.1:9093/api/v2/alerts"
    host.check_output("curl --silent --fail --json %s %s", json.dumps(posted), url)
    wanted = {f"FIRING ticket {name}{run} (1)" for name in ("OfAnother", "WithoutSlo")}
    told = told_team(wait_for(host, lambda found: set(told_team(found)) >= wanted))
    assert f"FIRING ticket Held{run} (1)" not in told
    known = json.loads(host.check_output("curl --silent --fail %s", url))
    held = {one["labels"]["alertname"] for one in known if one["status"]["inhibitedBy"]}
    assert held == {f"Held{run}"}


def test_the_dead_man_is_called_again_and_again_and_nobody_else_hears_of_it(host: Host) -> None:
    def heard(found: Calls) -> int:
        return sum(call["path"] == "/dead-man-token" for call in found)

    before = heard(wait_for(host, lambda found: heard(found) > 0))
    found = wait_for(host, lambda found: heard(found) > before + 1)
    assert {call["path"] for call in found if "Watchdog" in json.dumps(call)} == {"/dead-man-token"}
