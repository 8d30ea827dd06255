"""The application as a browser of one room sees it: sign-in, cookies, forms, and what an answer means."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from typing import Any

import httpx

PERSON = re.compile(r'href="(/personnes/[0-9a-f-]+/)"')
DOCUMENT = re.compile(r"#document-([0-9a-f-]{36})$")
"""Where the answer to an upload leads: the document's place on the person's page."""
LIMIT = httpx.Timeout(10.0, connect=3.0)
"""Seconds after which a user has given up."""


NOTICE_DEAD = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000),
]
"""A user whose host has died reloads the page: the link is given up after 3 s without a sign of life, or as soon as the
host that has taken the address refuses it. A host that lives may take its time."""


class SiteError(Exception):
    """The application did not do what was asked; says what it answered."""


class Site:
    """A signed-in user at one room's address. Certificates are checked; names are not resolved."""

    def __init__(self, description: dict[str, Any], room: str) -> None:
        self.room = room
        self.account: str = description["account"]
        self.password: str = description["account_password"]
        self.base = f"https://{description['rooms'][room]}"
        self._signing = asyncio.Lock()
        self.http = httpx.AsyncClient(
            base_url=self.base,
            transport=httpx.AsyncHTTPTransport(
                verify=ssl.create_default_context(cafile=description["ca"]),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=10, keepalive_expiry=20),
                socket_options=NOTICE_DEAD,
                trust_env=False,
            ),
            timeout=LIMIT,
            # Django wants to know where a form came from.
            headers={"Referer": f"{self.base}/", "Accept-Language": "fr"},
            trust_env=False,
        )

    async def sign_in(self) -> None:
        """Sign in.

        Raises:
            SiteError: the application did not accept it.
            httpx.HTTPError: nobody answered.
        """
        async with self._signing:
            await self.http.get("/connexion/")
            answer = await self.post("/connexion/", {"username": self.account, "password": self.password})
            if answer.status_code not in {302, 303}:
                raise SiteError(f"sign-in of {self.account} at {self.base}: {answer.status_code}")

    async def post(
        self, path: str, fields: dict[str, str], files: dict[str, tuple[str, bytes, str]] | None = None
    ) -> httpx.Response:
        """Send a form with the session's CSRF token. Redirects are not followed: they are the answer."""
        token = next((value for name, value in self.http.cookies.items() if "csrf" in name), "")
        return await self.http.post(path, data={**fields, "csrfmiddlewaretoken": token}, files=files)

    async def people(self, queries: tuple[str, ...] = ("Schmitt", "Muller", "Weber", "Klein")) -> list[str]:
        """Return paths of some persons' pages, found as a user would.

        Raises:
            SiteError: the directory shows nobody.
        """
        found: list[str] = []
        for query in queries:
            answer = await self.http.get("/repertoire/", params={"q": query})
            found.extend(PERSON.findall(answer.text))
        if not found:
            raise SiteError(f"no person is found at {self.base}: load data first (`sias data load`).")
        return sorted(set(found))

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()


def signed_out(answer: httpx.Response) -> bool:
    """Tell whether the session has ended: the application shows the way to the sign-in."""
    return answer.status_code in {302, 303} and "/connexion/" in answer.headers.get("Location", "")


def sentence(error: BaseException) -> str:
    """Say an error in one short line."""
    return f"{type(error).__name__} {' '.join(str(error).split())}".strip()[:200]
