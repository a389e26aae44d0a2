"""Shared access signatures made independently of the emulator and the SDK."""

import base64
import hashlib
import hmac
from urllib.parse import quote_plus


def signed_token(
    resource: str, key: str = "SAS_KEY_VALUE", name: str = "RootManageSharedAccessKey", expiry: int = 4_000_000_000
) -> str:
    signed = f"{quote_plus(resource)}\n{expiry}".encode()
    signature = base64.b64encode(hmac.new(key.encode(), signed, hashlib.sha256).digest())
    return f"SharedAccessSignature sr={quote_plus(resource)}&sig={quote_plus(signature)}&se={expiry}&skn={name}"
