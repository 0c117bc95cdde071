#!/usr/bin/python3
"""Saves the state of all servers (down, drained, in which track) where the next HAProxy process reads it.

Runs before every reload. Leaves out servers whose address or port in haproxy.cfg has changed: HAProxy would silently
take the old address from the state file.

usage: save_server_state.py ADMIN_SOCKET STATE_FILE HAPROXY_CFG
"""

import os
import re
import socket
import sys
from pathlib import Path


def ask(path: str, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer.decode()


def configured(text: str) -> dict[tuple[str, str], str]:
    """(backend, server) -> ADDRESS:PORT as haproxy.cfg says."""
    servers: dict[tuple[str, str], str] = {}
    backend = ""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "backend":
            backend = words[1]
        elif len(words) >= 3 and words[0] == "server":
            servers[backend, words[1]] = words[2]
    return servers


def still_valid(state: str, servers: dict[tuple[str, str], str]) -> str:
    lines = state.splitlines()
    if not lines or not re.fullmatch(r"\d+", lines[0]) or len(lines) < 2 or not lines[1].startswith("# "):
        raise ValueError(f"unexpected answer to 'show servers state': {lines[:2]}")
    column = {name: number for number, name in enumerate(lines[1].removeprefix("# ").split())}
    kept = lines[:2]
    for line in lines[2:]:
        words = line.split()
        if not words:
            continue
        backend, server = words[column["be_name"]], words[column["srv_name"]]
        if servers.get((backend, server)) == f"{words[column['srv_addr']]}:{words[column['srv_port']]}":
            kept.append(line)
    return "\n".join(kept) + "\n"


def main() -> int:
    admin_socket, state_file, configuration = sys.argv[1:]
    try:
        text = still_valid(ask(admin_socket, "show servers state"), configured(Path(configuration).read_text()))
        beside = Path(f"{state_file}.new")
        beside.write_text(text)
        os.replace(beside, state_file)
    except (OSError, ValueError) as error:
        sys.stderr.write(
            f"save_server_state: {error}; after the reload every engine counts as up until it is checked\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
