"""Signatures of model files: where a key is set, a file that was not signed with it is refused.

HMAC-SHA-256 (RFC 2104). A hash tells that a file is whole; only a key tells that it is ours where somebody else can
write the models folder, the registry included. The key comes from the environment or a credential of the systemd unit,
never from a file beside the models.
"""

import hmac
import os
from hashlib import sha256
from typing import Final

from hftcl.config.dotenv import SIGNING_KEY, find_given
from hftcl.errors import ConfigError, IntegrityError

SHORTEST: Final = 16  # characters


def read_key() -> bytes | None:
    """Return the key of this process; None where none is set. Raises ConfigError for one that is too short."""
    value, origin = find_given(SIGNING_KEY, os.environ)
    if not value:
        return None
    if len(value) < SHORTEST:
        raise ConfigError(
            f"{SIGNING_KEY} ({origin}) has fewer than {SHORTEST} characters. Make one with: openssl rand -hex 32"
        )
    return value.encode()


def sign_data(key: bytes, data: bytes) -> str:
    """Return the signature of `data`, 64 hexadecimal digits."""
    return hmac.new(key, data, sha256).hexdigest()


def require(name: str, data: bytes, signature: str | None) -> None:
    """Raise IntegrityError unless `signature` signs `data` with the key that is set; without a key nothing is asked.

    name: what the message calls the file. signature: None for a file without a signature.
    """
    key = read_key()
    if key is None:
        return
    if signature is None:
        raise IntegrityError(
            f"{name} is not signed, and {SIGNING_KEY} is set. Train one with the key (`hftcl retrain --force`) and "
            "put it in place: `hftcl rollback MODEL_ID --reason TEXT`."
        )
    if not hmac.compare_digest(signature.encode(), sign_data(key, data).encode()):
        raise IntegrityError(f"{name} is not signed with this {SIGNING_KEY}. Use the key that it was trained with.")
