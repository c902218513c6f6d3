"""`differnet sign`: makes a key for signing, or signs a model file.

Imported on every start of `differnet`, so what reads and signs is imported when the command runs.
"""

from __future__ import annotations

import argparse

from ..command import Command, print_result
from ..errors import ConfigError
from ..files import try_file, write_bytes
from .arguments import add_json, add_model, add_output, existing_file, new_folder, text


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `differnet sign`."""
    parser.description = (
        "Signs a model file, so that stations which trust the key (`trusted_keys` under [model]) "
        "take it and no other. --new-key makes the key, once: its private half stays where models "
        "are released, its public half goes into the stations' configuration."
    )
    add_model(parser, optional=True)
    parser.add_argument(
        "--key", type=existing_file, metavar="KEY", help="private key, as --new-key makes it"
    )
    add_output(parser)
    parser.add_argument(
        "--new-key",
        type=new_folder,
        metavar="DIR",
        help="make signing-key.pem (private) and signing-key.pub in this folder",
    )
    parser.add_argument("--name", type=text, help="with --new-key: whose key it is, for people")
    add_json(parser)


def _check(arguments: argparse.Namespace) -> None:
    """Refuses options that don't go together, before anything is read or written."""
    if arguments.new_key is not None:
        given = {"FILE": arguments.model, "--key": arguments.key, "--output": arguments.output}
        if extra := [name for name, value in given.items() if value is not None]:
            raise ConfigError(f"--new-key only makes a key: leave {extra[0]} out")
        return
    if arguments.name is not None:
        raise ConfigError("--name goes with --new-key")
    if arguments.model is None or arguments.key is None:
        raise ConfigError(
            "give FILE and --key KEY to sign a model (--output writes it elsewhere), or --new-key "
            "DIR to make a key"
        )
    if arguments.output is None:
        try_file(arguments.model)


def run(arguments: argparse.Namespace) -> int:
    """Runs `differnet sign`."""
    return _new_key(arguments) if arguments.new_key is not None else _sign(arguments)


def _new_key(arguments: argparse.Namespace) -> int:
    from ..model_file.signing import PRIVATE_NAME, PUBLIC_NAME, new_key

    folder = arguments.new_key
    key = new_key(folder, arguments.name)
    private, public = str(folder / PRIVATE_NAME), str(folder / PUBLIC_NAME)
    print_result(
        {"key": key, "private": private, "public": public},
        f"Private key: {private}. Keep it from everybody, and keep a copy offline: it can't be "
        f"made again.\nPublic key:  {public}. In the stations' configuration:\n"
        f'  [model]\n  trusted_keys = ["{key}"]',
        as_json=arguments.json,
    )
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    from ..model_file.file import content_hash, read_model_file
    from ..model_file.signing import sign

    data, _ = read_model_file(arguments.model)
    signed, key = sign(data, arguments.key)
    output = arguments.output or arguments.model
    write_bytes(output, signed)
    digest = content_hash(signed)
    print_result(
        {"file": str(output), "sha256": digest, "key": key},
        f"{output} is signed by {key}; its content hash is now {digest}.",
        as_json=arguments.json,
    )
    return 0


COMMAND = Command(
    "sign",
    "sign a model file, or make a key for it",
    configure,
    run,
    extra="sign",
    modules=("cryptography",),
    check=_check,
)
