"""The device's model store.

ROOT/NAME/files/HASH.onnx    never changed once it is there; engines lie beside it
ROOT/NAME/active             link to the file that judges; replaced in one step
ROOT/NAME/previous           link to the one before; what a rollback takes
ROOT/NAME/history.jsonl      what was done, a line each
ROOT/NAME/notes/HASH.txt     what a person noted of a model

The links and the history in the folder of a name in the store.

What the store tells of its models, and of what was done with them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ..errors import EngineFault, ModelFileError, ModelStoreError, OutputError
from ..files import sync_folder, write_bytes
from ..inference.switch import check_model
from ..model_file.contract import StrictModel
from ..model_file.file import content_hash, read_model_file
from ..model_file.signing import describe_signature
from ..sentences import sentence
from ..text import instead, nearest
from .cards import ACTIVE, Card, Read, card_of, caution, names_in, note_of, verified, write_note

FOLDER_VARIABLE = "DIFFERNET_MODELS"
_DEFAULT = Path("/var/lib/differnet/models")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{4,64}")
_PREVIOUS = "previous"


def default_folder() -> Path:
    """Returns DIFFERNET_MODELS, or /var/lib/differnet/models."""
    return Path(os.environ.get(FOLDER_VARIABLE) or _DEFAULT)


class ModelStore:
    """The models of one device.

    Args:
        root: Its folder; made when the first model is added.
        check: Loads a model and scores its golden frames, in another process; raises
            `DifferNetError` where that fails.
    """

    def __init__(self, root: Path, check: Callable[[Path], None] = check_model) -> None:
        self.root = root
        self._check = check

    def _listed(self, name: str | None) -> list[StoredModel]:
        """Returns the models of a name, or of all; reads no others."""
        try:
            files = [path for path in self.root.glob("*/files/*.onnx") if path.is_file()]
        except OSError as error:
            raise ModelStoreError(f"{self.root}: {error.strerror or error}") from error
        files = [path for path in files if name in (None, path.parents[1].name)]
        read = {path: Read.of(path) for path in files}
        found = [self._stored(path, read) for path in files]
        return sorted(found, key=lambda model: (model.name, model.added, model.hash))

    def list(self) -> list[StoredModel]:
        """Returns every model, by name and age; damaged ones say so."""
        return self._listed(None)

    def names(self) -> tuple[str, ...]:
        """Returns the names under which there are models, without reading them."""
        return names_in(self.root)

    def _stored(self, path: Path, read: Mapping[Path, Read] | None = None) -> StoredModel:
        """Returns a model.

        Args:
            path: The model's file.
            read: What was read of this file and the active one of its name; None reads them.
        """
        folder, status = path.parent.parent, path.stat()
        active = linked(folder, ACTIVE)
        if read is None:
            read = {one: Read.of(one) for one in {path, active} if one is not None}
        metadata = read[path].metadata
        present = read[active].metadata if active is not None and active in read else None
        calibration = metadata.calibration if metadata else None
        return StoredModel(
            name=folder.name,
            hash=path.stem,
            path=path,
            bytes=status.st_size,
            added=datetime.fromtimestamp(status.st_mtime, timezone.utc).isoformat(),
            active=active == path,
            previous=linked(folder, _PREVIOUS) == path,
            precision=metadata.precision if metadata else None,
            threshold=calibration.threshold if calibration else None,
            signature=read[path].signature,
            damaged=read[path].damaged,
            caution=caution(metadata, present) if metadata and present and active != path else None,
            **card_of(metadata, note_of(folder, path.stem)).model_dump(),
        )

    def add(self, path: Path, name: str | None = None) -> StoredModel:
        """Copies a model file into the store; it does not judge yet.

        Args:
            path: A file that `differnet export` wrote.
            name: Of the part; None takes the name in the file.

        Raises:
            ModelFileError: It is damaged, not ours, or its signature is not of this file.
            ModelStoreError: The name can't be a folder's.
            OutputError: The store can't be written.
        """
        data, metadata = read_model_file(path)
        describe_signature(data, str(path))  # a false one is refused
        name = metadata.name.lower() if name is None else name
        if not _NAME.fullmatch(name):
            raise ModelStoreError(
                f"{name!r} can't be a model's name in the store: a-z, 0-9, - and _ are allowed, at "
                "most 64. Give another with --name."
            )
        digest = content_hash(data)
        with self._locked(self.root / name) as folder:
            target = self.path_of(name, digest)
            write_bytes(target, data)
            sync_folder(target.parent)
            record(folder, "add", digest)
        return self._stored(target)

    def path_of(self, name: str, digest: str) -> Path:
        """Returns where the model of a name and hash lies, if it is there."""
        return self.root / name / "files" / f"{digest}.onnx"

    def active(self, name: str) -> Path | None:
        """Returns the file that judges parts of that name, if there is one."""
        return linked(self.root / name, ACTIVE)

    def previous(self, name: str) -> Path | None:
        """Returns the file that a rollback would make active, if there is one."""
        path = linked(self.root / name, _PREVIOUS)
        return None if path == self.active(name) else path

    def activate(
        self, model: str, name: str | None = None, *, checked: bool = False
    ) -> StoredModel:
        """Makes a model the one that judges, once it has passed in a process of its own.

        Args:
            model: Hash (or its first digits, four at least), or name: its newest.
            name: See `find`.
            checked: It has just passed elsewhere (a `ModelSwitch` under load).

        Raises:
            ModelStoreError: There is no such model, or it does not pass; the old one stays.
            OutputError: The store can't be written.
        """
        chosen = self.find(model, name)
        self._pass(chosen.path, checked=checked)
        with self._locked(self.root / chosen.name) as folder:
            before = linked(folder, ACTIVE)
            if before != chosen.path:
                if before is not None:
                    link(folder, _PREVIOUS, before)
                link(folder, ACTIVE, chosen.path)
                record(folder, "activate", chosen.hash)
        return self._stored(chosen.path)

    def rollback(self, name: str | None = None, *, reason: str | None = None) -> StoredModel:
        """Makes the model active that was active before; can be done once after each activation.

        Args:
            name: Whose; None where the store holds only one.
            reason: Kept in the history.

        Raises:
            ModelStoreError: There is nothing to go back to, or that file is damaged.
            OutputError: The store can't be written.
        """
        names = self.names()
        if name is not None and name not in names:
            known = instead(name, names) if names else "there is none yet"
            raise ModelStoreError(f"there is no model {name!r} in {self.root}; {known}")
        with self._locked(self.root / (name or self._only_name())) as folder:
            previous = self.previous(folder.name)
            if previous is None:
                raise ModelStoreError(
                    f"{folder.name} has no previous model to go back to; `differnet models list` "
                    "shows what can be activated"
                )
            self._pass(previous, checked=True)
            link(folder, ACTIVE, previous)
            (folder / _PREVIOUS).unlink(missing_ok=True)
            record(folder, "rollback", previous.stem, reason)
        return self._stored(previous)

    def find(self, model: str, name: str | None = None) -> StoredModel:
        """Returns the model of a hash (or its first digits), or the newest of a name.

        Args:
            model: Hash or name.
            name: Only among those of this name: one file may be there under several.

        Raises:
            ModelStoreError: There is none, or several.
        """
        stored = self._listed(name)
        if named := [one for one in stored if one.name == model]:
            return named[-1]
        found = [one for one in stored if _HASH.fullmatch(model) and one.hash.startswith(model)]
        if len(found) == 1:
            return found[0]
        names = self.names()
        if not found and (close := nearest(model, names)):
            raise ModelStoreError(f"{model!r} names no model in {self.root}; did you mean {close}?")
        code, known = "model_several" if found else "model_unknown", ", ".join(names) or "none yet"
        raise ModelStoreError(sentence(code, model=model, root=self.root, names=known))

    def note(self, model: str, text: str, name: str | None = None) -> StoredModel:
        """Keeps a note on a model, in place of an earlier one; an empty text removes it.

        Args:
            model: As in `activate`.
            text: At most 1000 characters.
            name: See `find`.

        Raises:
            ModelStoreError: There is no such model, or the text is too long or not printable.
            OutputError: The store can't be written.
        """
        chosen = self.find(model, name)
        try:
            with self._locked(self.root / chosen.name) as folder:
                write_note(folder, chosen.hash, text)
        except ValidationError as error:
            raise ModelStoreError(sentence("note_refused", why=error.errors()[0]["msg"])) from None
        return self._stored(chosen.path)

    def read_note(self, name: str, digest: str) -> str | None:
        """Returns the note on a model, if there is one.

        Args:
            name: The model's name in the store.
            digest: The model's content hash.
        """
        return note_of(self.root / name, digest)

    def history(self, name: str) -> Sequence[Change]:
        """Returns what was done, the oldest first; a line that a power cut tore is left out."""
        changes = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.root / name / "history.jsonl").read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    changes.append(Change.model_validate_json(line))
        return changes

    def _pass(self, path: Path, *, checked: bool) -> None:
        try:
            verified(path)
            if not checked:
                self._check(path)
        except (ModelFileError, EngineFault) as error:
            raise ModelStoreError(
                sentence("model_not_activated", model=path.stem[:16], why=error)
            ) from error

    def _only_name(self) -> str:
        names = sorted({model.name for model in self.list()})
        if len(names) == 1:
            return names[0]
        known = f": {', '.join(names)}" if names else "; there is none"
        raise ModelStoreError(f"say which model to roll back{known}")

    @contextlib.contextmanager
    def _locked(self, folder: Path) -> Iterator[Path]:
        """Holds a name's folder against other commands; the kernel frees it with its holder."""
        try:
            (folder / "files").mkdir(parents=True, exist_ok=True)
            with (folder / ".lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield folder
        except OSError as error:
            raise OutputError(f"{folder}: {error.strerror or error}") from error


def linked(folder: Path, name: str) -> Path | None:
    """Returns what a link points to, if that is there."""
    try:
        path = folder / (folder / name).readlink()
    except OSError:
        return None
    return path if path.is_file() else None


def link(folder: Path, name: str, path: Path) -> None:
    """Points a link elsewhere in one step: a reader sees the old one or the new one."""
    partial = folder / f".{name}.partial"
    partial.unlink(missing_ok=True)
    partial.symlink_to(path.relative_to(folder))
    partial.replace(folder / name)
    sync_folder(folder)


def record(folder: Path, action: str, digest: str, reason: str | None = None) -> None:
    """Adds a line to what was done with the models of a name; it is on disk when this returns."""
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    change = Change.model_validate({"at": at, "action": action, "hash": digest, "reason": reason})
    with (folder / "history.jsonl").open("a+b") as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            file.write(b"\n")  # a power cut tore the last line
        file.write(change.model_dump_json().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


class StoredModel(Card):
    """A model file in the store, with its card.

    Args:
        name: Of the part that it judges; models of one name take each other's place.
        hash: Content hash.
        path: Where it lies.
        bytes: Its size.
        added: When, ISO 8601.
        active: It judges.
        previous: It judged before; a rollback makes it active again.
        precision: `fp32`, `fp16` or `int8`; None if it is damaged.
        threshold: None if it is damaged, or not calibrated.
        signature: In words, whether it is signed and by which key; None if it is damaged.
        damaged: Why it can't be used, or None.
        caution: Why it may be for another part than the active model of its name, or None.
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


class Change(StrictModel):
    """A line of a name's history.

    Args:
        at: When, ISO 8601.
        action: What was done.
        hash: With which model.
        reason: Why, where it is known (a rollback's cause).
    """

    at: str
    action: Literal["add", "activate", "rollback"]
    hash: str
    reason: str | None = None
