"""Which systems can be polled, and what each of them needs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from resources.device_apis import dexcom, librelinkup, nightscout, share, tidepool
from resources.device_apis.protocol import Start, Steps


@dataclass(frozen=True)
class System:
    """A system that can be polled.

    Attributes:
        name: on the command line, and in the file of accounts.
        format: of the documents that `poll` makes, as the adapters name it.
        poll: asks it.
        url: where it is; None where each account has its own.
        secrets: what has to be known to ask it.
        other_secrets: what may be known besides.
        options: what an account may say besides.
        least_every_s: it is asked no more often.
        every_s: how often it is asked by default.
        is_official: whether its owner offers the interface to others.
    """

    name: str
    format: str
    poll: Callable[[Start], Steps]
    url: str | None
    secrets: tuple[str, ...]
    least_every_s: int
    every_s: int
    options: tuple[str, ...] = ()
    other_secrets: tuple[str, ...] = ()
    is_official: bool = True

    @property
    def least(self) -> timedelta:
        """The shortest time between two polls."""
        return timedelta(seconds=self.least_every_s)


SYSTEMS = {
    system.name: system
    for system in (
        System("nightscout", "nightscout", nightscout.poll, None, ("secret",), 60, 300, ("version",)),
        System(
            "dexcom",
            "dexcom-v3",
            dexcom.poll,
            "https://api.dexcom.com",
            ("client_id", "client_secret"),
            300,
            900,
            other_secrets=("refresh_token",),
        ),
        System(
            "share",
            "dexcom-share",
            share.poll,
            "https://share2.dexcom.com",
            ("username", "password"),
            60,
            300,
            ("region",),
            is_official=False,
        ),
        System(
            "librelinkup",
            "librelinkup",
            librelinkup.poll,
            "https://api.libreview.io",
            ("email", "password"),
            60,
            120,
            ("person", "app_version"),
            is_official=False,
        ),
        System(
            "tidepool",
            "tidepool",
            tidepool.poll,
            "https://api.tidepool.org",
            ("email", "password"),
            300,
            900,
            ("user",),
        ),
    )
}
"""By their names."""
