"""The Azure identity of the process, which answers in time or not at all.

`DefaultAzureCredential` asks one source after the other; some of them start a program or wait for a network.
"""

import threading
from typing import Any, Protocol

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from resources.background import Background
from resources.deadlines import TOKEN_TIMEOUT_S


class Credential(Protocol):
    """What gives tokens: any credential of azure-identity."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """A token for the scopes."""
        ...


class BoundedCredential:
    """A credential that is asked by one thread at a time, and not waited for longer than some seconds.

    Args:
        credential: default is `DefaultAzureCredential`: environment, managed identity, ``az login`` and others.
    """

    def __init__(self, credential: Credential | None = None) -> None:
        self._credential = credential
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, ...], Background[tuple[str, ...], AccessToken]] = {}

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """A token for the scopes.

        Raises:
            ClientAuthenticationError: no source gave a token, or none answered in time.
        """
        with self._lock:
            # Whoever comes while an answer is awaited waits for the same one: threads do not pile up.
            asked = self._asked.get(scopes)
            if asked is None or not asked.is_alive:
                asked = self._asked[scopes] = Background(self._ask, [scopes], "ask for a token")
        try:
            [token] = asked.results(TOKEN_TIMEOUT_S)
        except TimeoutError as error:
            raise ClientAuthenticationError(
                f"The Azure identity of this process gave no token within {TOKEN_TIMEOUT_S:.0f} s. "
                "Check `az login`, the managed identity, or AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET."
            ) from error
        return token

    def _ask(self, scopes: tuple[str, ...]) -> AccessToken:
        if self._credential is None:
            from azure.identity import DefaultAzureCredential

            self._credential = DefaultAzureCredential()
        return self._credential.get_token(*scopes)
