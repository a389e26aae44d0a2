"""Sets up logs as the settings say, for processes that load definitions."""

from pydantic import ValidationError

from resources.logs import set_up
from resources.settings import Settings


def set_up_from_settings() -> None:
    """Sets up logs. Settings that are wrong are named by whoever needs them; here they change nothing."""
    try:
        set_up(Settings().log)
    except ValidationError:
        set_up()
