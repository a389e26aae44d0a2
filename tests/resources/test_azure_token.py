"""The lake's token: asked for once, renewed in time."""

import time

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from resources.azure_token import SCOPE, AzureToken
from resources.lake import Lake
from resources.settings import Settings
from resources.sources import namespace_of
from resources.storage import lake_of


class Issuer:
    """A credential whose tokens are valid for so many seconds."""

    def __init__(self, valid_s: float) -> None:
        self.valid_s = valid_s
        self.issued = 0

    def get_token(self, *scopes: str) -> AccessToken:
        assert scopes == (SCOPE,)
        self.issued += 1
        return AccessToken(f"token-{self.issued}", int(time.time() + self.valid_s))


def test_a_token_is_kept_while_it_is_valid() -> None:
    token = AzureToken(Issuer(valid_s=3600))
    assert [token(), token()] == ["token-1", "token-1"]


def test_a_token_that_is_nearly_over_is_renewed() -> None:
    token = AzureToken(Issuer(valid_s=60))
    assert [token(), token()] == ["token-1", "token-2"]


def test_an_identity_that_failed_is_asked_again() -> None:
    class Failing(Issuer):
        def get_token(self, *scopes: str) -> AccessToken:
            token = super().get_token(*scopes)
            if self.issued == 1:
                raise ClientAuthenticationError("no identity")
            return token

    token = AzureToken(Failing(valid_s=3600))
    with pytest.raises(ClientAuthenticationError):
        token()
    assert token() == "token-2"


def test_each_opening_of_the_lake_has_a_token_that_is_valid_now() -> None:
    lake = Lake(
        "abfss://lake@account.dfs.core.windows.net", {"account_name": "account"}, AzureToken(Issuer(valid_s=60))
    )
    assert lake.options() == {"account_name": "account", "bearer_token": "token-1"}
    assert lake.options()["bearer_token"] == "token-2"


def test_a_process_has_one_identity_however_often_the_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSELAKE_LAKE", "abfss://lake@account.dfs.core.windows.net")
    monkeypatch.setenv("EVENTHUB_NAMESPACE", "account.servicebus.windows.net")
    assert lake_of(Settings()).token is lake_of(Settings()).token is not None
    assert namespace_of(Settings()) is namespace_of(Settings())
    monkeypatch.setenv("EVENTHUB_CONSUMER_GROUP", "other")
    assert namespace_of(Settings()).consumer_group == "other"
