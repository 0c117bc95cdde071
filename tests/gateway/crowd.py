"""Many clients at once."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx

from gateway.asking import CHAT, CONTEXT
from gateway.plan import KEYS


class Crowd:
    """Many clients at once, each with a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._threads = ThreadPoolExecutor(max_workers=80)

    def ask(
        self, body: dict[str, Any], tenant: str = "demo", timeout: float = 15, **headers: str
    ) -> Future[httpx.Response]:
        all_headers = {"authorization": f"Bearer {KEYS[tenant]}", **headers}
        url = f"{self._url}{CHAT}"
        return self._threads.submit(httpx.post, url, json=body, headers=all_headers, timeout=timeout, verify=CONTEXT)

    def close(self) -> None:
        self._threads.shutdown()
