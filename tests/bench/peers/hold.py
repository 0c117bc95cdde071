"""Opens COUNT streams at once, waits until each has had its events, then runs a command and leaves. In the bench node.

python3 hold.py HOST PORT PATH KEY BODY COUNT COMMAND...
"""

import asyncio
import subprocess
import sys
from pathlib import Path

LAST = b'"completion_tokens":50'


async def one(host: str, port: int, request: bytes) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    seen = b""
    while LAST not in seen:
        piece = await reader.read(65536)
        if not piece:
            raise SystemExit(f"a stream ended early: {seen[-300:]!r}")
        seen = seen[-100:] + piece
    return writer


async def main() -> None:
    host, port, path, key, body, count = sys.argv[1:7]
    data = Path(body).read_bytes()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    work = [one(host, int(port), head.encode() + data) for _ in range(int(count))]
    writers = await asyncio.wait_for(asyncio.gather(*work), timeout=120)
    subprocess.run(sys.argv[7:], check=True)
    for writer in writers:
        writer.transport.abort()


asyncio.run(main())
