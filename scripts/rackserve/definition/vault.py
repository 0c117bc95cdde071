"""Vault passwords for scripts: those of ansible.cfg and those of the command line, as ansible-playbook takes them."""

from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import PromptVaultSecret, VaultSecretsContext, get_file_vault_secret

from rackserve.definition.problem import Place, Problem

REMEDY = (
    "pass --vault-id NAME@prompt or --vault-password-file FILE; "
    "the examples that ship with rackserve open with --vault-id lab@inventory/lab/.vault-password"
)
_PROMPTS = ("prompt", "prompt_ask_vault_pass")


def unlock(loader: DataLoader, vault_ids: Sequence[str], password_files: Sequence[str]) -> None:
    """Gives the loader every password. Relative files of ansible.cfg are looked up beside it. Raises AnsibleError."""
    base = FilePath(constants.CONFIG_FILE).parent if constants.CONFIG_FILE else FilePath.cwd()
    configured = [
        *(constants.DEFAULT_VAULT_IDENTITY_LIST or ()),
        *filter(None, [constants.DEFAULT_VAULT_PASSWORD_FILE]),
    ]
    wanted = [(base, slug) for slug in configured] + [(FilePath.cwd(), slug) for slug in (*vault_ids, *password_files)]
    secrets = []
    for folder, slug in wanted:
        name, _, source = slug.rpartition("@")
        name = name or constants.DEFAULT_VAULT_IDENTITY
        secret: Any
        if source in _PROMPTS:
            secret = PromptVaultSecret(prompt_formats=[f"Vault password ({name}): "], vault_id=name)
        else:
            secret = get_file_vault_secret(
                filename=str(folder / FilePath(source).expanduser()), vault_id=name, loader=loader
            )
        secret.load()
        secrets.append((name, secret))
    loader.set_vault_secrets(secrets)
    # Values encrypted one by one (!vault) are opened through this context, of which a process has one.
    if (context := VaultSecretsContext.current(optional=True)) is None:
        VaultSecretsContext.initialize(VaultSecretsContext(secrets))
    else:
        context.secrets = [*secrets, *context.secrets]


def locked(loader: DataLoader, encrypted: Sequence[str]) -> list[Problem]:
    """The encrypted files that none of the passwords opens."""
    problems = []
    for file in encrypted:
        try:
            loader.get_text_file_contents(file)
        except AnsibleError:
            label = _vault_id(file)
            problems.append(
                Problem(
                    (),
                    "is encrypted, and no given password opens it" + (f" (its vault id is {label})" if label else ""),
                    "the password with which it was encrypted",
                    REMEDY,
                    place=Place(file),
                )
            )
    return problems


def _vault_id(file: str) -> str:
    header = FilePath(file).read_text(encoding="utf-8").partition("\n")[0].split(";")
    return header[3].strip() if len(header) > 3 else ""
