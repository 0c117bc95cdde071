"""Runs on a balancer: sends commands to HAProxy's admin socket, each over a connection of its own. Standard library only."""

import json
import socket
import sys
from typing import Any


def answer(asked: dict[str, Any]) -> None:
    replies = []
    for command in asked["commands"]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(asked["seconds"])
            try:
                connection.connect(asked["socket"])
                connection.sendall(f"{command}\n".encode())
                pieces = []
                while piece := connection.recv(1 << 16):
                    pieces.append(piece)
            except OSError as error:
                sys.exit(f"{asked['socket']}: {error}")
        replies.append(b"".join(pieces).decode(errors="replace"))
    print(json.dumps(replies))
