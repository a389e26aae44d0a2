"""The file of accounts: what it declares, what is wrong with it, and that no secret is in it."""

from pathlib import Path

import pytest

from resources.account_state import AccountState, AccountStateError, load, save
from resources.accounts import AccountError, read_accounts
from resources.tokens import TokenError, Tokens
from tests.stream.scenarios import NOON

NIGHTSCOUT = """
[grandmother]
system = "nightscout"
url = "https://nightscout.example.org/"
patient = "ns-site-a"
zone = "Europe/Lisbon"
secrets = { secret = "NIGHTSCOUT_TOKEN" }
"""
SHARE = """
[child]
system = "share"
patient = "share-1"
every_s = 120
region = "jp"
secrets = { username = "SHARE_USER", password = "SHARE_PASSWORD" }
"""


def file_with(folder: Path, text: str) -> Path:
    file = folder / "accounts.toml"
    file.write_text(text)
    return file


def test_a_file_declares_accounts(tmp_path: Path):
    accounts = read_accounts(file_with(tmp_path, NIGHTSCOUT + SHARE))
    first, second = accounts["grandmother"], accounts["child"]
    assert (first.url, first.patient, first.zone, first.every_s) == (
        "https://nightscout.example.org",
        "ns-site-a",
        "Europe/Lisbon",
        300,
    )
    assert (second.url, second.every_s, second.options) == ("https://share2.dexcom.com", 120, {"region": "jp"})
    assert (first.is_on, second.is_on) == (True, False)
    assert read_accounts(file_with(tmp_path, f"{SHARE}accepts_terms = true"))["child"].is_on
    assert read_accounts(tmp_path / "none.toml") == {}


def test_secrets_come_from_the_environment(tmp_path: Path):
    account = read_accounts(file_with(tmp_path, SHARE))["child"]
    environment = {"SHARE_USER": "u", "SHARE_PASSWORD": "p"}
    assert account.secrets(environment.get) == {"username": "u", "password": "p"}
    with pytest.raises(AccountError, match="has no SHARE_PASSWORD, so it was not polled"):
        account.secrets({"SHARE_USER": "u"}.get)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[grandmother]", "[Grand-Mother]", "its name has other characters"),
        ("[grandmother]", "grandmother = 5\n[other]", "it is no table"),
        ('"nightscout"\n', '"nightscout2"\n', "names no known system"),
        ("patient =", "patients =", "'patients' is not known"),
        ("Europe/Lisbon", "Lisbon", "no IANA time zone"),
        ('url = "https://nightscout.example.org/"', "", "url is no address"),
        ("https://", "http://", "is not encrypted"),
        ("https://", "https://user:word@", "url is no address"),
        ("org/", "org/?token=x", "url is no address"),
        ("org/", "org:99999/", "url is no address"),
        ('patient = "ns-site-a"', "", "it says no patient"),
        ('"NIGHTSCOUT_TOKEN"', '"my-secret-words"', "is no name of an environment variable"),
        ("{ secret =", "{ password =", "its secrets are wrong"),
        ("zone", "every_s = 5\nzone", "every_s is wrong"),
        ("zone", 'version = "2"\nzone', "no such version"),
        ("zone", 'accepts_terms = "yes"\nzone', "accepts_terms is wrong"),
        ("zone =", "zone", "is no TOML"),
        ("zone", 'region = "jp"\nzone', "'region' is not known"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_and_nothing_is_polled(tmp_path: Path, old: str, new: str, said: str):
    with pytest.raises(AccountError, match=said) as wrong:
        read_accounts(file_with(tmp_path, NIGHTSCOUT.replace(old, new)))
    assert "my-secret-words" not in str(wrong.value)
    assert "othing is polled" in str(wrong.value)


def test_the_same_account_twice_is_refused(tmp_path: Path):
    twice = NIGHTSCOUT + NIGHTSCOUT.replace("[grandmother]", "[other]")
    with pytest.raises(AccountError, match="it is the same as 'grandmother'"):
        read_accounts(file_with(tmp_path, twice))


def test_a_state_that_cannot_be_read_is_told(tmp_path: Path):
    save(tmp_path / "new", "mine", AccountState(until_ms=5, tokens={"a": "b"}))
    assert load(tmp_path / "new", "mine") == AccountState(until_ms=5, tokens={"a": "b"})
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(AccountStateError, match="account 'mine' was not polled"):
        load(tmp_path, "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(AccountStateError, match="cannot be written"):
        save(tmp_path / "file", "mine", AccountState())


def test_a_name_has_one_token_at_a_time(tmp_path: Path):
    tokens = Tokens(tmp_path / "home" / "tokens.json")
    first = tokens.create("phone", "mine", NOON)
    with pytest.raises(TokenError, match="There is a token 'phone' already"):
        tokens.create("phone", "mine", NOON)
    with pytest.raises(TokenError, match="is no name for a token"):
        tokens.create("a phone", "mine", NOON)
    with pytest.raises(TokenError, match="has no patient, so no token was made"):
        tokens.create("other", " ", NOON)
    tokens.revoke("phone", NOON)
    with pytest.raises(TokenError, match="There is no token 'phone' that holds"):
        tokens.revoke("phone", NOON)
    assert tokens.create("phone", "mine", NOON) != first
    assert [each.revoked_at for each in tokens.all()] == [NOON, None]
    file = tmp_path / "home" / "tokens.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("[")
    with pytest.raises(TokenError, match="cannot be read"):
        tokens.all()
