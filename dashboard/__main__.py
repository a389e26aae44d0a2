"""`python -m dashboard`: the server alone. `pulselake web` looks whether all is well, and becomes this."""

import logging

from dashboard.app import serve
from resources.logs import set_up
from resources.settings import Settings


def main() -> None:
    """Serves until the process is asked to end."""
    settings = Settings()
    set_up(settings.log, level=logging.INFO if settings.log == "json" else logging.WARNING)
    serve(settings)


if __name__ == "__main__":
    main()
