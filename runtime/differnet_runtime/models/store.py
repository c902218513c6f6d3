"""The device's model store.

ROOT/NAME/files/HASH.onnx    a model file, never changed; its TensorRT engines lie beside it
ROOT/NAME/active             link to the file that judges, replaced atomically
ROOT/NAME/previous           link to the one that was active before, for a rollback
ROOT/NAME/history.jsonl      what was done: one line with time, action, hash and reason
ROOT/NAME/notes/HASH.txt     a person's note on a model
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ..errors import EngineFault, ModelFileError, ModelStoreError, OutputError
from ..files import lock_file, os_errors, sync_folder, write_bytes
from ..inference.process import check_model
from ..model_file.file import content_hash, read_model_file
from ..model_file.signing import describe_signature
from ..sentences import sentence
from ..text import instead, nearest
from .cards import (
    ACTIVE,
    Card,
    FileContent,
    card_of,
    caution,
    names_in,
    note_of,
    read_stored,
    verified,
    write_note,
)

FOLDER_VARIABLE = "DIFFERNET_MODELS"
_DEFAULT = Path("/var/lib/differnet/models")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{4,64}")
_PREVIOUS = "previous"


def default_folder() -> Path:
    """Returns DIFFERNET_MODELS, or /var/lib/differnet/models."""
    return Path(os.environ.get(FOLDER_VARIABLE) or _DEFAULT)


class StoredModel(Card):
    """A model file in the store, with its card.

    Args:
        name: Name in the store; of all models of one name, one is active.
        hash: Content hash of the file.
        path: Path of the model file.
        bytes: Size of the model file.
        added: When it was added, ISO 8601.
        active: Whether it is the model that judges.
        previous: Whether a rollback would make it active.
        precision: `fp32`, `fp16` or `int8`; None if it is damaged.
        threshold: None if it is damaged, or not calibrated.
        signature: Whether it is signed and by which key, in words; None if it is damaged.
        damaged: Why it can't be used; None if it can.
        caution: Why it may be for another part than the active model of its name; None if nothing
            suggests it.
    """

    name: str
    hash: str
    path: Path
    bytes: int
    added: str
    active: bool
    previous: bool
    precision: str | None
    threshold: float | None
    signature: str | None
    damaged: str | None
    caution: str | None = None


class ModelStore:
    """The models of one device.

    Args:
        root: The store's folder; created when the first model is added.
        check: Loads a model in another process and scores its golden frames; raises
            `DifferNetError` if that fails.

    Example:
        >>> store = ModelStore(default_folder())
        >>> added = store.add(Path("washer.onnx"))
        >>> store.activate(added.hash)
        >>> store.active("washer")
        PosixPath('/var/lib/differnet/models/washer/files/4f1c...e9.onnx')
    """

    def __init__(self, root: Path, check: Callable[[Path], None] = check_model) -> None:
        self.root = root
        self._check = check

    def list(self, name: str | None = None) -> list[StoredModel]:
        """Returns every model, damaged ones too, by name and age.

        Args:
            name: Only models of this name.

        Raises:
            ModelStoreError: The folder can't be read.
        """
        with os_errors(ModelStoreError, self.root):
            files = [path for path in self.root.glob("*/files/*.onnx") if path.is_file()]
        read = cache(read_stored)
        return sorted(
            (self._stored(one, read) for one in files if name in (None, one.parents[1].name)),
            key=lambda model: (model.name, model.added, model.hash),
        )

    def _stored(self, path: Path, read: Callable[[Path], FileContent] = read_stored) -> StoredModel:
        folder, status, file = path.parent.parent, path.stat(), read(path)
        active = linked(folder, ACTIVE)
        metadata = file.metadata
        present = read(active).metadata if active not in (None, path) else None
        return StoredModel(
            name=folder.name,
            hash=path.stem,
            path=path,
            bytes=status.st_size,
            added=datetime.fromtimestamp(status.st_mtime, timezone.utc).isoformat(),
            active=active == path,
            previous=linked(folder, _PREVIOUS) == path,
            precision=metadata.precision if metadata else None,
            threshold=metadata.threshold if metadata else None,
            signature=file.signature,
            damaged=file.damaged,
            caution=caution(metadata, present) if metadata and present else None,
            **card_of(metadata, note_of(folder, path.stem)).model_dump(),
        )

    def add(self, path: Path, name: str | None = None) -> StoredModel:
        """Copies a model file into the store, without activating it.

        Args:
            path: A file that `differnet export` wrote.
            name: Name in the store; None takes the name in the file.

        Raises:
            ModelFileError: It is damaged, not a DifferNet model, or its signature is false.
            ModelStoreError: The name can't be the name of a folder.
            OutputError: The store can't be written.
        """
        data, metadata = read_model_file(path)
        describe_signature(data, str(path))  # raises an error if the signature is false
        name = metadata.name.lower() if name is None else name
        if not _NAME.fullmatch(name):
            raise ModelStoreError(
                f"{name!r} can't be a model's name in the store: a-z, 0-9, - and _ are allowed, at "
                "most 64. Give another with --name."
            )
        digest = content_hash(data)
        with self._locked(name) as folder:
            write_bytes(self.path_of(name, digest), data, durable=True)
            _record(folder, "add", digest)
        return self._stored(self.path_of(name, digest))

    def path_of(self, name: str, digest: str) -> Path:
        """Returns the path of the model with this name and hash, whether it exists or not."""
        return self.root / name / "files" / f"{digest}.onnx"

    def active(self, name: str) -> Path | None:
        """Returns the active model file of a name, if there is one."""
        return linked(self.root / name, ACTIVE)

    def previous(self, name: str) -> Path | None:
        """Returns the file that a rollback would make active, if there is one."""
        path = linked(self.root / name, _PREVIOUS)
        return None if path == self.active(name) else path

    def activate(
        self, model: str, name: str | None = None, *, checked: bool = False
    ) -> StoredModel:
        """Makes a model active once it has passed the check in another process.

        Args:
            model: A hash (or its first digits, at least four), or a name, for its newest model.
            name: Only models of this name; the same file may be stored under several.
            checked: It was just checked elsewhere (by a `ModelSwitch`, under load).

        Raises:
            ModelStoreError: There is no such model, or it fails the check; the old one stays.
            OutputError: The store can't be written.
        """
        chosen = self.find(model, name)
        self._require_sound(chosen.path, checked=checked)
        with self._locked(chosen.name) as folder:
            before = linked(folder, ACTIVE)
            if before != chosen.path:
                if before is not None:
                    _link(folder, _PREVIOUS, before)
                _link(folder, ACTIVE, chosen.path)
                _record(folder, "activate", chosen.hash)
        return self._stored(chosen.path)

    def rollback(self, name: str | None = None, *, reason: str | None = None) -> StoredModel:
        """Makes the previous model active again; possible once after each activation.

        Args:
            name: Name of the model; None if the store has only one.
            reason: The reason, for the history.

        Raises:
            ModelStoreError: There is no previous model, or its file is damaged.
            OutputError: The store can't be written.
        """
        names = names_in(self.root)
        if name is None:
            if len(names) != 1:
                known = f": {', '.join(names)}" if names else "; there is none"
                raise ModelStoreError(f"say which model to roll back{known}")
            [name] = names
        elif name not in names:
            known = instead(name, names) if names else "there is none yet"
            raise ModelStoreError(f"there is no model {name!r} in {self.root}; {known}")
        with self._locked(name) as folder:
            previous = self.previous(name)
            if previous is None:
                raise ModelStoreError(
                    f"{name} has no previous model to go back to; `differnet models list` "
                    "shows what can be activated"
                )
            self._require_sound(previous, checked=True)
            _link(folder, ACTIVE, previous)
            (folder / _PREVIOUS).unlink(missing_ok=True)
            _record(folder, "rollback", previous.stem, reason)
        return self._stored(previous)

    def find(self, model: str, name: str | None = None) -> StoredModel:
        """Returns the model with a hash (or its first digits), or the newest of a name.

        Args:
            model: Hash (or its first digits), or name.
            name: Only models of this name; the same file may be stored under several.

        Raises:
            ModelStoreError: There is none, or there are several.
        """
        stored = self.list(name)
        if named := [one for one in stored if one.name == model]:
            return named[-1]
        found = [one for one in stored if _HASH.fullmatch(model) and one.hash.startswith(model)]
        if len(found) == 1:
            return found[0]
        names = names_in(self.root)
        if not found and (close := nearest(model, names)):
            raise ModelStoreError(f"{model!r} names no model in {self.root}; did you mean {close}?")
        code, known = "model_several" if found else "model_unknown", ", ".join(names) or "none yet"
        raise ModelStoreError(sentence(code, model=model, root=self.root, names=known))

    def note(self, model: str, text: str, name: str | None = None) -> StoredModel:
        """Writes a note on a model, in place of an earlier one; an empty text removes it.

        Args:
            model: Hash (or its first digits), or name, for its newest model.
            text: At most 1000 characters.
            name: Only models of this name; the same file may be stored under several.

        Raises:
            ModelStoreError: There is no such model, or the text is too long or not printable.
            OutputError: The store can't be written.
        """
        chosen = self.find(model, name)
        try:
            with self._locked(chosen.name) as folder:
                write_note(folder, chosen.hash, text)
        except ValidationError as error:
            raise ModelStoreError(sentence("note_refused", why=error.errors()[0]["msg"])) from None
        return self._stored(chosen.path)

    def _require_sound(self, path: Path, *, checked: bool) -> None:
        try:
            verified(path)
            if not checked:
                self._check(path)
        except (ModelFileError, EngineFault) as error:
            raise ModelStoreError(
                sentence("model_not_activated", model=path.stem[:16], why=error)
            ) from error

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[Path]:
        """Locks a name's folder against other processes, and yields it."""
        folder = self.root / name
        with os_errors(OutputError, folder):
            (folder / "files").mkdir(parents=True, exist_ok=True)
            with lock_file(folder / ".lock"):
                yield folder


def linked(folder: Path, name: str) -> Path | None:
    """Returns the file that a link points to; None if the link or the file is missing."""
    try:
        path = folder / (folder / name).readlink()
    except OSError:
        return None
    return path if path.is_file() else None


def _link(folder: Path, name: str, path: Path) -> None:
    """Points a link at another file, atomically."""
    partial = folder / f".{name}.partial"
    partial.unlink(missing_ok=True)
    partial.symlink_to(path.relative_to(folder))
    partial.replace(folder / name)
    sync_folder(folder)


def _record(
    folder: Path,
    action: Literal["add", "activate", "rollback"],
    digest: str,
    reason: str | None = None,
) -> None:
    """Appends a line to the history; it is on disk when this returns."""
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    change = {"at": at, "action": action, "hash": digest, "reason": reason}
    line = json.dumps(change, ensure_ascii=False, separators=(",", ":"))
    with (folder / "history.jsonl").open("a+b") as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            file.write(b"\n")  # a power cut tore the last line
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())
