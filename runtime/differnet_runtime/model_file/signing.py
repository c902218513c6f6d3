"""Signs model files, and says who signed one: Ed25519, by the package `cryptography`.

The signature is a metadata entry of the file. It covers SHA-256 of every byte before it, so graph
and metadata both; the content hash comes after it, and covers it too. Whatever changes the file
(`calibrate` among it) takes the signature away.

A public key is one line of text, `ed25519:BASE64 NAME`: the contents of a `.pub` file, and an entry
of `model.trusted_keys` in a station's configuration. The name is for people.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from ..errors import ModelFileError, SigningError
from ..files import os_errors
from ..installation import install_line
from ..names import PATTERN
from .file import signature, signed_part, with_signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


PRIVATE_NAME, PUBLIC_NAME = "signing-key.pem", "signing-key.pub"

_PREFIX = "ed25519:"
_PURPOSE = b"differnet model file 1\n"
_OTHERS = 0o077
_LONGEST_FILE = 4096
_SIGNATURE = re.compile(r"(ed25519:[A-Za-z0-9+/]{43}=) ([A-Za-z0-9+/]{86}==)")


def new_key(folder: Path, name: str | None = None) -> str:
    """Makes a pair of keys, `signing-key.pem` (private) and `signing-key.pub`, in a folder.

    Args:
        folder: Made where it is not there; keys that are there are never replaced.
        name: Whose key it is, for people; at most 64 characters.

    Returns:
        The public key's line.

    Raises:
        SigningError: `cryptography` is missing, the name can't be used, or a file is there already
            or can't be written.
    """
    key = _ed25519().Ed25519PrivateKey.generate()
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = _public_of(key) + (f" {name}" if name else "")
    if not re.fullmatch(PATTERN, public):
        raise SigningError(f"{name!r} can't be a key's name: one line of 1 to 64 characters can")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_new(folder / PRIVATE_NAME, pem, 0o600)
        _write_new(folder / PUBLIC_NAME, f"{public}\n".encode(), 0o644)
    except FileExistsError as error:
        raise SigningError(
            f"{error.filename} is there already, and keys are never replaced; take another folder"
        ) from error
    except OSError as error:
        raise SigningError(f"{error.filename or folder}: {error.strerror or error}") from error
    return public


def sign(data: bytes, key_file: Path) -> tuple[bytes, str]:
    """Signs a model file's bytes.

    Args:
        data: Bytes that `read_model_file` returned; an existing signature is replaced.
        key_file: The private key that `new_key` made.

    Returns:
        The signed file's bytes, and the public key.

    Raises:
        SigningError: The key can't be read, or others can read it; `cryptography` is missing.
    """
    key = _read_key(key_file)
    public = _public_of(key)
    signed = key.sign(_PURPOSE + signed_part(data))
    return with_signature(data, f"{public} {base64.b64encode(signed).decode()}"), public


def signed_by(data: bytes, source: str) -> str | None:
    """Returns the public key that signed a model file, `ed25519:BASE64`; None for no signature.

    Args:
        data: Bytes that `read_model_file` returned.
        source: Name of the file, for messages.

    Raises:
        ModelFileError: The signature is not of this file.
        SigningError: There is a signature, but `cryptography` is missing.
    """
    text = signature(data)
    if text is None:
        return None
    found = _SIGNATURE.fullmatch(text)
    if found is None or not _holds(found[1], found[2], signed_part(data)):
        raise ModelFileError(
            f"{source} has a signature that does not fit it: somebody changed the file or the "
            "signature. Take the file again from whoever signed it."
        )
    return found[1]


def require_signature(data: bytes, source: str, trusted: Sequence[str]) -> None:
    """Refuses a model file that none of the trusted keys has signed.

    Args:
        data: Bytes that `read_model_file` returned.
        source: Name of the file, for messages.
        trusted: Lines of public keys; none at all admits every file.

    Raises:
        ModelFileError: It is not signed, or by another key; says what to do.
        SigningError: `cryptography` is missing.
    """
    if not trusted:
        return
    key = signed_by(data, source)
    if key is None:
        raise ModelFileError(
            f"{source} is not signed, and model.trusted_keys admits signed models only. Have it "
            "signed (`differnet sign FILE --key KEY`) by the holder of a trusted key."
        )
    if key not in {_key_of(line) for line in trusted}:
        raise ModelFileError(
            f"{source} is signed by {key}, which is not among model.trusted_keys "
            f"({', '.join(trusted)}). Have it signed by the holder of one of these, or add the key "
            "if you trust it."
        )


def name_of(key: str, trusted: Sequence[str]) -> str:
    """Returns the line of a trusted key, with its name; the key itself if it is not among them."""
    return next((line for line in trusted if _key_of(line) == key), key)


def describe_signature(data: bytes, source: str, trusted: Sequence[str] = ()) -> str:
    """Says in words whether a model file is signed, and by whom.

    Raises:
        ModelFileError: The signature is not of this file.
    """
    try:
        key = signed_by(data, source)
    except SigningError as error:
        return f"signed, but by whom can't be checked: {error}"
    return "not signed" if key is None else f"signed by {name_of(key, trusted)}"


def _ed25519() -> ModuleType:
    """Imports the only part of `cryptography` that signs; only signed models need it."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise SigningError(
            "the package cryptography, which reads signatures, is not installed. Install it with "
            f"`{install_line('sign')}`."
        ) from error
    return ed25519


def _holds(public: str, signed: str, part: bytes) -> bool:
    raw = base64.b64decode(public.removeprefix(_PREFIX))
    key = _ed25519().Ed25519PublicKey.from_public_bytes(raw)
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(base64.b64decode(signed), _PURPOSE + part)
    except InvalidSignature:
        return False
    return True


def _key_of(line: str) -> str:
    return line.split(" ", 1)[0]


def _public_of(key: Ed25519PrivateKey) -> str:
    return _PREFIX + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _read_key(path: Path) -> Ed25519PrivateKey:
    ed25519 = _ed25519()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with os_errors(SigningError, path), path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        pem = file.read(_LONGEST_FILE)
    if mode & _OTHERS:
        raise SigningError(
            f"{path}: others can read this private key. If it was never copied, `chmod 600 {path}` "
            "is enough; else make a new one with `differnet sign --new-key`."
        )
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningError(
            f"{path} is no private key. `differnet sign --new-key FOLDER` makes one."
        ) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise SigningError(
            f"{path} is a key of another kind, and Ed25519 is needed. `differnet sign --new-key "
            "FOLDER` makes one."
        )
    return cast("Ed25519PrivateKey", key)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
