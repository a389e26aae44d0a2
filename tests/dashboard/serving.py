"""The application on a port, without its threads that follow hubs, and people who are signed in to it."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from dashboard.app import application
from dashboard.site import Site
from resources.lake import Lake
from resources.settings import Settings
from resources.storage import lake_of
from tests.dashboard.world import PASSWORD, accounts, free_port, people

OWN = {"sec-fetch-site": "same-origin"}


@dataclass
class Served:
    """A server, and what its pages share."""

    address: str
    site: Site
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    @property
    def lake(self) -> Lake:
        return self.site.lake

    def of(self, name: str) -> httpx.Client:
        """Somebody's browser, signed in."""
        if name not in self.clients:
            client = httpx.Client(base_url=self.address, headers=OWN | {"origin": self.address}, timeout=300)
            said = client.post("/login", data={"name": name, "password": PASSWORD, "next": ""})
            assert said.status_code == 303, said.text
            self.clients[name] = client
        return self.clients[name]

    def post(self, name: str, path: str, fields: Mapping[str, Any]) -> httpx.Response:
        """Sends a form of theirs, with the token of their session."""
        client = self.of(name)
        token = re.search(r'name="csrf" value="([^"]+)"', client.get("/nowhere", headers={"accept": "text/html"}).text)
        assert token is not None
        return client.post(path, data={**fields, "csrf": token[1]}, headers={"accept": "text/html"})

    def done(self) -> list[tuple[str, str, str]]:
        """Who did what to whom, by the audit trail, oldest first."""
        return [(row.who, row.what, row.subject) for row in self.site.audit.rows(10_000)][::-1]


@contextmanager
def running(settings: Settings) -> Iterator[Site]:
    """A server of the six patients and the accounts of `world`; its threads that read hubs do not run."""
    people(lake_of(settings))
    accounts(settings.root)
    app = application(settings)
    config = uvicorn.Config(app, host="127.0.0.1", port=settings.page_port, lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield app.state.site
    finally:
        server.should_exit = server.force_exit = True
        thread.join(300)
        # What a server leaves open when its thread goes on would be told of in a later test.
        assert not thread.is_alive()


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """The same, with a browser for each account."""
    settings = Settings(home=folder, hub_port=1, page_port=free_port(), _env_file=None)
    with running(settings) as site:
        made = Served(f"http://127.0.0.1:{settings.page_port}", site)
        site.directory.refresh(site.clock())
        try:
            yield made
        finally:
            for client in made.clients.values():
                client.close()
