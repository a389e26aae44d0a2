"""The live page of the demo: whether it shows the alarms that the demo raised, as a browser gets them."""

import time
from dataclasses import dataclass, field

import httpx

from orchestration.alarms import alarms
from orchestration.processes import Children
from orchestration.web_cli import FIRST_USER
from resources.lake import Lake

ANSWER_S, TRY_S = 10.0, 30.0
"""How long one answer is waited for, and how long until all alarms must be there."""
_AGAIN_AFTER_S = 0.5


@dataclass(frozen=True)
class OnThePage:
    """Which alarms the page showed.

    Attributes:
        open: how many are open by their tables.
        shown: how many of them the page showed.
        password: of its account `admin`.
    """

    open: int
    shown: int
    password: str = field(default="", repr=False)

    @property
    def problems(self) -> list[str]:
        """Why that is wrong; empty if it is not."""
        if self.shown == self.open:
            return []
        return [f"the live page shows {self.shown:,} of {self.open:,} open alarms; logs/page.log may say why"]


@dataclass(frozen=True)
class WardPage:
    """The page, at its port.

    Attributes:
        port: where it is served.
        password: of its account `admin`.
    """

    port: int
    password: str = field(repr=False)

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://127.0.0.1:{self.port}"

    def shown(self, lake: Lake, children: Children) -> OnThePage:
        """Signs in, and looks until the page shows all alarms that are open, or until `TRY_S` are over.

        Raises:
            ChildError: a part of the system has ended.
            StoppedError: the process was asked to end.
        """
        headers, end = {"sec-fetch-site": "same-origin"}, time.monotonic() + TRY_S
        # A proxy that the environment names does not know this machine.
        with httpx.Client(base_url=self.address, headers=headers, timeout=ANSWER_S, trust_env=False) as client:
            while (found := self._look(client, lake)).problems and time.monotonic() < end:
                children.wait(_AGAIN_AFTER_S)
        return found

    def _look(self, client: httpx.Client, lake: Lake) -> OnThePage:
        wanted = {*alarms(lake)["alarm_id"].to_list()}
        return OnThePage(len(wanted), len(wanted & self._on_the_ward(client)), self.password)

    def _on_the_ward(self, client: httpx.Client) -> set[str]:
        """The ids of the alarms on the ward; none while the page does not answer."""
        try:
            if not client.cookies:
                client.post("/login", data={"name": FIRST_USER, "password": self.password, "next": ""})
            answer = client.get("/live/snapshot").raise_for_status()
        except httpx.HTTPError:
            return set()
        return {alarm["id"] for row in answer.json()["rows"] for alarm in row["alarms"]}
