"""Signing keys in a folder of <kid>.pem: the newest signs, all verify, so that rotation logs nobody out."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from hcp.errors import SettingsError

KEY_BITS: Final = 2048
PUBLIC_EXPONENT: Final = 65_537
KEY_MODE: Final = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The keys of one moment.

    Attributes:
        signing_kid: Of the key that signs: the last by name.
        signing_key: That key.
        public_keys: Every key that verifies, by kid.
    """

    signing_kid: str
    signing_key: RSAPrivateKey
    public_keys: dict[str, RSAPublicKey]

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """Return the public keys as a JWK set (RFC 7517)."""
        return {
            "keys": [
                {**RSAAlgorithm.to_jwk(key, as_dict=True), "kid": kid, "use": "sig", "alg": "RS256"}
                for kid, key in self.public_keys.items()
            ]
        }


def load_keys(folder: Path) -> KeyRing:
    """Read every key of a folder.

    Raises:
        SettingsError: It holds none, or one that is no RSA key of 2048 bits or more.
    """
    private: dict[str, RSAPrivateKey] = {}
    for path in sorted(folder.glob("*.pem")):
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, OSError) as error:
            raise SettingsError(f"{path.name} must be a readable PEM private key, was not: {error}") from error
        if not isinstance(key, RSAPrivateKey) or key.key_size < KEY_BITS:
            raise SettingsError(f"{path.name} must be an RSA key of {KEY_BITS} bits or more, was not")
        private[path.stem] = key
    if not private:
        raise SettingsError(
            f"{folder} must hold a signing key (<kid>.pem), was empty: `hcp users rotate-key` makes one"
        )
    newest = max(private)
    public = {kid: key.public_key() for kid, key in private.items()}
    return KeyRing(signing_kid=newest, signing_key=private[newest], public_keys=public)


def make_key(folder: Path) -> str:
    """Write a new signing key, readable by its owner alone; return its kid, which sorts after the older ones."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    kid = f"k{time.time_ns() // 1_000_000:014d}"
    key = generate_private_key(public_exponent=PUBLIC_EXPONENT, key_size=KEY_BITS)
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    unfinished = folder / f".{kid}.{os.getpid()}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_MODE)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    unfinished.rename(folder / f"{kid}.pem")
    return kid


def ensure_keys(folder: Path) -> None:
    """Make the first signing key when the folder has none."""
    if not any(folder.glob("*.pem")):
        make_key(folder)
