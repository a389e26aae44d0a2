"""The token with which the Azure identity of the process opens the lake."""

import time
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Protocol

from azure.core.credentials import AccessToken
from azure.core.exceptions import ServiceRequestTimeoutError
from azure.identity import DefaultAzureCredential

SCOPE = "https://storage.azure.com/.default"
# A handle keeps its token while it is used; one that is nearly over is not handed out.
MIN_VALIDITY_S = 600.0
# The chain of credentials asks several services and starts programs, each with a patience of its own.
ANSWER_TIMEOUT_S = 60.0


class Credential(Protocol):
    """What gives tokens: any credential of azure-identity."""

    def get_token(self, *scopes: str) -> AccessToken:
        """A token for the scopes."""
        ...


class AzureToken:
    """Asks the credential once and again when the token is nearly over; some credentials start a process each time.

    Args:
        credential: default is `DefaultAzureCredential`: environment, managed identity, ``az login`` and others.
        timeout_s: how long its answer is waited for.
    """

    def __init__(self, credential: Credential | None = None, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._credential = credential
        self._timeout_s = timeout_s
        self._token: AccessToken | None = None
        self._asked: Future[AccessToken] | None = None
        self._lock = Lock()

    def __call__(self) -> str:
        """A token that is valid for some minutes.

        Raises:
            AzureError: no credential gave a token, or none answered in time.
        """
        if (token := self._token) and token.expires_on - time.time() >= MIN_VALIDITY_S:
            return token.token
        with self._lock:
            # An answer that others wait for is waited for: a thread for each opening would pile up.
            asked = self._asked = self._asked or self._ask()
        try:
            self._token = asked.result(self._timeout_s)
        except TimeoutError as error:
            raise ServiceRequestTimeoutError(
                f"The Azure identity gave no token for {SCOPE} within {self._timeout_s:g} s, so nothing was read or "
                "written. Check the network, the managed identity or `az login`; AZURE_STORAGE_ACCOUNT_KEY needs no "
                "identity."
            ) from error
        finally:
            if asked.done():
                self._asked = None
        return self._token.token

    def _ask(self) -> Future[AccessToken]:
        answer: Future[AccessToken] = Future()

        def ask() -> None:
            try:
                self._credential = self._credential or DefaultAzureCredential()
                answer.set_result(self._credential.get_token(SCOPE))
            except BaseException as error:
                answer.set_exception(error)

        # A daemon: a credential that never answers must not keep the process from ending.
        Thread(target=ask, name="azure-token", daemon=True).start()
        return answer
