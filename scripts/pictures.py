"""Makes the pictures of the live page in docs/: `PYTHONPATH=. .venv/bin/python scripts/pictures.py`.

Forty synthetic patients live for two weeks up to this moment, through the stream engine; a real server shows them to a
real browser. It takes some minutes, and needs what `make install-dev` installs.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from playwright.sync_api import FloatRect, Page

from assets.glucose.assets import CONTRACT
from assets.reference.rules import Wanted
from assets.reference_store import put_rules
from benchmarks.lived import LONG_AGO, live
from dashboard.access import Role, Scope
from dashboard.app import application
from dashboard.database import page_database
from dashboard.users import User, Users
from orchestration.system import HUBS
from resources.lake import Lake
from resources.settings import DEFAULT_HUBS, Settings
from resources.storage import lake_of
from tests.dashboard.browser import sign_in, tab
from tests.dashboard.world import GROUP, PASSWORD, free_port
from tests.emulator.hub import RunningHub
from tests.services.chromium import chromium

DOCS = Path(__file__).resolve().parents[1] / "docs"
NAME, PATIENT = "nora", 1
WIDTH, WARD_HEIGHT, PATIENT_HEIGHT = 1280, 860, 1900


def main() -> None:
    """Makes all pictures."""
    hubs = [f"{DEFAULT_HUBS.get(name, name)}:1:{GROUP}" for name in HUBS]
    with RunningHub(hubs) as hub, TemporaryDirectory(prefix="pictures-") as folder:
        settings = Settings(home=Path(folder), event_hubs=hub.connection_string, page_port=free_port(), _env_file=None)
        lake = lake_of(settings)
        print("Forty patients live for two weeks …")
        live(lake, datetime.now(UTC).replace(microsecond=0), prepared=lambda: _rule(lake))
        _account(settings)
        viewport = {"width": WIDTH, "height": WARD_HEIGHT}
        with _served(settings) as address, chromium() as browser, tab(browser, address, viewport=viewport) as page:
            sign_in(page, NAME)
            _pictures(page)


def _rule(lake: Lake) -> None:
    """One patient has a threshold of their own by night, so that the page says why."""
    wanted = Wanted(
        "glucose_low", {"threshold": 80.0, "note": "hypoglycaemia at night"}, f"patient:{PATIENT}", "22:00", "06:00"
    )
    put_rules(lake, [CONTRACT], [wanted], valid_from=LONG_AGO, clock=lambda: LONG_AGO, changed_by=NAME)


def _account(settings: Settings) -> None:
    database = page_database(settings.root)
    users = Users(database, lambda: datetime.now(UTC))
    users.add(User(NAME, Role.CLINICIAN, Scope(is_everyone=True), zone="Europe/Lisbon"), PASSWORD)
    database.close()


@contextmanager
def _served(settings: Settings) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(application(settings), port=settings.page_port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{settings.page_port}"
    server.should_exit = True
    thread.join(30)


def _pictures(page: Page) -> None:
    page.goto("/")
    page.locator("[data-state=live]").wait_for()
    # The board fills once the stream is there.
    page.wait_for_timeout(2_000)
    page.screenshot(path=DOCS / "live-ward.png")
    page.goto(f"/patients/{PATIENT}")
    clip: FloatRect = {"x": 0, "y": 0, "width": WIDTH, "height": PATIENT_HEIGHT}
    page.screenshot(path=DOCS / "live-patient.png", full_page=True, clip=clip)


if __name__ == "__main__":
    main()
