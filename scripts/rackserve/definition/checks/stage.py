"""Example secrets: fine in the lab and in the examples, refused where real users are served."""

import hashlib
import ipaddress
from collections.abc import Iterator

from pydantic import SecretStr

from rackserve.definition.problem import Path, Problem, key_text
from rackserve.definition.read import Definition

_EXAMPLES = ("lab-", "sk-lab-", "example-", "sk-example-")
# RFC 5737 and RFC 3849: nobody can have these addresses, so nothing can be installed on such an inventory.
_DOCUMENTATION = tuple(
    map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"))
)

_REMEDY = (
    "make new ones and put them into vault.yml, encrypted with a password of your own; see inventory/vault.example.yml"
)


def secrets_are_real(definition: Definition) -> Iterator[Problem]:
    """In prod, secrets that everybody can read are refused; noted only in an example that has no real address."""
    if definition.service.stage != "prod":
        return
    found = list(_example_secrets(definition))
    if found and all(_is_documentation(node.address) for node in definition.nodes.values()):
        yield Problem(
            (),
            f"{len(found)} example secrets that everybody can read: {', '.join(map(key_text, found))}",
            "with service_stage prod: secrets of your own; only noted while every address is one for documentation",
            _REMEDY,
            severity="warning",
        )
        return
    for path in found:
        yield Problem(
            path,
            "is an example secret that everybody can read",
            "with service_stage prod: a secret of your own",
            _REMEDY,
            "(hidden)",
        )


def the_labs_ca_is_for_the_lab(definition: Definition) -> Iterator[Problem]:
    """Its key lies in the clear on the controller, and nobody else trusts it."""
    tls = definition.service.tls
    if tls is not None and tls.certificate == "lab_ca" and definition.service.stage == "prod":
        yield Problem(
            ("service_tls", "certificate"),
            "is made by a CA that only the controller knows",
            "supplied, with service_stage prod",
            "give certificate, chain and key of a CA that your clients trust",
            '"lab_ca"',
        )


def _example_secrets(definition: Definition) -> Iterator[Path]:
    service = definition.service
    for name, secret in (("engine_key", service.engine_key), ("probe_key", service.probe_key)):
        if isinstance(secret, SecretStr) and secret.get_secret_value().startswith(_EXAMPLES):
            yield (f"service_{name}",)
    for tenant_name, tenant in service.tenants.items():
        for number, key in enumerate(tenant.keys):
            if key.sha256 == example_hash(key.id):
                yield ("service_tenants", tenant_name, "keys", number, "sha256")


def example_hash(key_id: str) -> str:
    """The hash of the key with this id in the shipped examples."""
    return hashlib.sha256(f"sk-example-{key_id}".encode()).hexdigest()


def _is_documentation(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in _DOCUMENTATION if network.version == parsed.version)


def probe_key_is_known(definition: Definition) -> Iterator[Problem]:
    """site.yml asks with the probe key at its end, so some tenant has to have it, with access to every pool."""
    secret = definition.service.probe_key
    if secret is None or definition.declared["tenants"] != frozenset(definition.service.tenants):
        return
    digest = hashlib.sha256(secret.get_secret_value().encode()).hexdigest()
    owners = [
        name for name, tenant in definition.service.tenants.items() if any(key.sha256 == digest for key in tenant.keys)
    ]
    if not owners:
        yield Problem(
            ("service_probe_key",),
            "belongs to no tenant, so the balancers will refuse it",
            "a key whose hash one tenant has",
            "add its hash to a tenant: sha256: \"{{ service_probe_key | hash('sha256') }}\"",
            "(hidden)",
        )
        return
    pools = definition.service.tenants[owners[0]].pools
    if missing := [pool for pool in definition.service.pools if pool not in pools]:
        yield Problem(
            ("service_tenants", owners[0], "pools"),
            f"{owners[0]} has the probe key, but not pool {missing[0]}, so site.yml cannot ask it",
            "every pool",
            f"add {missing[0]}",
            f"[{', '.join(pools)}]",
        )
