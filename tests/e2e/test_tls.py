"""TLS from the definition: one line, a run, and every address answers with a certificate that the lab's CA vouches for."""

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from conftest import Service, node, playbook
from cryptography import x509
from rackserve.definition.load import load_inventory

TAGS = ("--tags", "haproxy,traffic_log,keepalived,verify")


@pytest.fixture
def secure(edited_inventory: Path) -> Iterator[Path]:
    """The lab behind TLS; afterwards as the repository has it."""
    definition = edited_inventory / "group_vars/all/service.yml"
    definition.write_text(f"{definition.read_text()}\nservice_tls: {{certificate: lab_ca}}\n")
    yield edited_inventory
    assert playbook(*TAGS).status == 0


def test_one_line_of_the_definition_puts_the_service_behind_tls(service: Service, secure: Path) -> None:
    done = playbook(*TAGS, inventory=secure)
    assert done.status == 0, f"site.yml asks every engine over TLS at its end\n{done.output[-3000:]}"
    assert playbook("--tags", "haproxy,keepalived", inventory=secure).changed() == [], "the certificate is made once"

    plan = load_inventory(secure).plan
    trust = ssl.create_default_context(cafile=plan["tls"]["trusted_by"])
    port = plan["ports"]["api"]
    addresses = [plan["virtual_address"]["address"], *(plan["nodes"][name]["address"] for name in plan["balancers"])]
    for address in addresses:
        answer = httpx.get(f"https://{address}:{port}/healthz", verify=trust, timeout=10)
        assert (answer.status_code, answer.headers["strict-transport-security"]) == (200, "max-age=31536000")
    made = x509.load_pem_x509_certificate(ssl.get_server_certificate((addresses[0], port)).encode())
    for name in plan["balancers"]:
        page = node(name, "curl", "-sf", f"http://127.0.0.1:{plan['ports']['traffic']}/metrics")
        told = re.search(r"^rackserve_certificate_not_after_timestamp_seconds (\S+)$", page, re.MULTILINE)
        assert told, page[:2000]
        assert float(told[1]) == made.not_valid_after_utc.timestamp(), name
    with httpx.Client(verify=trust) as http:
        url = f"https://{addresses[0]}:{port}/v1"
        client = openai.OpenAI(base_url=url, api_key=service.key, http_client=http, max_retries=0, timeout=60)
        words = [{"role": "user", "content": "Hi"}]
        assert client.chat.completions.create(model="small", messages=words, max_tokens=2).usage  # type: ignore[arg-type]
