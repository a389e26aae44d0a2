"""Secrets by name: from the environment, the file `.env`, or an Azure Key Vault."""

import re
import ssl
from functools import cache

import httpx
from azure.core.exceptions import ClientAuthenticationError

from resources.identity import BoundedCredential, Credential
from resources.settings import Settings, environment_variable

SCOPE = "https://vault.azure.net/.default"
API_VERSION = "7.4"
TIMEOUT_S = 10.0


class SecretError(RuntimeError):
    """A key vault does not give a secret; the message says what to do."""


class KeyVault:
    """An Azure Key Vault.

    Args:
        url: such as ``https://NAME.vault.azure.net``.
        credential: default is the Azure identity of the process.
        verify: which certificates are trusted; default is those of the system.
    """

    def __init__(self, url: str, credential: Credential | None = None, verify: ssl.SSLContext | bool = True) -> None:
        self._url, self._credential = url.rstrip("/"), credential or BoundedCredential()
        self._client = httpx.Client(timeout=TIMEOUT_S, verify=verify)

    def secret(self, name: str) -> str | None:
        """The value of a secret; None where there is none. Names there have hyphens where ours have underscores.

        Raises:
            SecretError: the vault or the identity does not answer, or may not.
        """
        stored = re.sub(r"_", "-", name)
        try:
            token = self._credential.get_token(SCOPE).token
            answer = self._client.get(
                f"{self._url}/secrets/{stored}",
                params={"api-version": API_VERSION},
                headers={"Authorization": f"Bearer {token}"},
            )
        except (httpx.HTTPError, ClientAuthenticationError) as error:
            raise self._failed(name, type(error).__name__) from None
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.status_code != httpx.codes.OK:
            raise self._failed(name, f"it answered {answer.status_code}")
        return str(answer.json()["value"])

    def _failed(self, name: str, why: str) -> SecretError:
        return SecretError(
            f"The key vault {self._url} did not give the secret {name} ({why}). Check PULSELAKE_KEY_VAULT, the network "
            "and that the identity of this process has the role Key Vault Secrets User."
        )


# One for the process: an identity answers slowly at first.
_key_vault = cache(KeyVault)


def secret_of(settings: Settings, name: str) -> str | None:
    """A secret by its name, from the environment, the file `.env` or the key vault; None where there is none.

    Raises:
        SecretError: the key vault does not give it.
    """
    if found := environment_variable(name):
        return found
    return _key_vault(settings.key_vault).secret(name) if settings.key_vault else None
