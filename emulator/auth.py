"""Shared access signatures: is a token genuine, unexpired, and for which resource is it?"""

import base64
import hmac
from dataclasses import dataclass
from urllib.parse import unquote_plus, urlsplit

DEFAULT_KEY_NAME = "RootManageSharedAccessKey"
DEFAULT_KEY = "SAS_KEY_VALUE"
_PREFIX = "SharedAccessSignature "


class TokenRefused(Exception):
    """The token opens nothing; the message says why."""


@dataclass(frozen=True)
class AccessKey:
    name: str = DEFAULT_KEY_NAME
    value: str = DEFAULT_KEY

    def verify(self, token: str, now_seconds: float) -> tuple[str, float]:
        """The resource that a valid token opens (its path, lower-case, no slashes around it) and until when."""
        fields = _fields(token)
        resource, expiry = fields["sr"], fields["se"]
        if unquote_plus(fields["skn"]) != self.name:
            raise TokenRefused(f"InvalidKeyName: there is no shared access key '{unquote_plus(fields['skn'])}'.")
        signed = hmac.digest(self.value.encode(), f"{resource}\n{expiry}".encode(), "sha256")
        if not hmac.compare_digest(base64.b64encode(signed), unquote_plus(fields["sig"]).encode()):
            raise TokenRefused("InvalidSignature: the token has an invalid signature; check the shared access key.")
        if not expiry.isdigit() or int(expiry) <= now_seconds:
            raise TokenRefused("ExpiredToken: the token is expired.")
        return urlsplit(unquote_plus(resource)).path.strip("/").lower(), float(expiry)


def covers(resource: str, path: str) -> bool:
    """Whether a token for `resource` opens `path`: a namespace opens all its hubs, a hub all below it."""
    return not resource or path == resource or path.startswith(resource + "/")


def _fields(token: str) -> dict[str, str]:
    if not token.startswith(_PREFIX):
        raise TokenRefused("InvalidToken: only shared access signatures are supported.")
    pairs = [part.partition("=") for part in token[len(_PREFIX) :].split("&")]
    fields = {name: value for name, _, value in pairs}
    missing = [name for name in ("sr", "sig", "se", "skn") if not fields.get(name)]
    if missing:
        raise TokenRefused(f"MalformedToken: the token lacks {', '.join(missing)}.")
    return fields
