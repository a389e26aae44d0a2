"""The token with which the Azure identity of the process opens the lake."""

import time
from typing import Protocol

from azure.core.credentials import AccessToken

from resources.identity import BoundedCredential

SCOPE = "https://storage.azure.com/.default"
# A handle keeps its token while it is used; one that is nearly over is not handed out.
MIN_VALIDITY_S = 600.0


class Credential(Protocol):
    """What gives tokens: any credential of azure-identity."""

    def get_token(self, *scopes: str) -> AccessToken:
        """A token for the scopes."""
        ...


class AzureToken:
    """Asks the credential once and again when the token is nearly over; some credentials start a process each time.

    Args:
        credential: default is the Azure identity of the process, see `resources.identity`.
    """

    def __init__(self, credential: Credential | None = None) -> None:
        self._credential = credential
        self._token: AccessToken | None = None

    def __call__(self) -> str:
        """A token that is valid for some minutes."""
        if self._token is None or self._token.expires_on - time.time() < MIN_VALIDITY_S:
            self._credential = self._credential or BoundedCredential()
            self._token = self._credential.get_token(SCOPE)
        return self._token.token
