"""A signature holds for one file and one key; stations that trust keys take no other model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from differnet_runtime.config import ModelConfig, PlannedModel
from differnet_runtime.errors import ModelFileError, SigningError
from differnet_runtime.inference.process import EngineProcess
from differnet_runtime.model_file.file import read_model_file, signature, with_signature
from differnet_runtime.model_file.metadata import ModelMetadata
from differnet_runtime.model_file.signing import (
    PRIVATE_NAME,
    PUBLIC_NAME,
    describe_signature,
    new_key,
    require_signature,
    sign,
    signed_by,
)
from differnet_runtime.models.store import ModelStore
from differnet_runtime.station.models import StationModel
from tests.command_line import differnet

Make = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "keys", "Plant 1")
    return tmp_path / "keys" / PRIVATE_NAME


@pytest.fixture
def public(key: Path) -> str:
    return (key.parent / PUBLIC_NAME).read_text().strip()


@pytest.fixture
def other(tmp_path: Path) -> str:
    return new_key(tmp_path / "others")


@pytest.fixture
def signed(sound_model: Make, key: Path) -> Path:
    model = sound_model()
    assert differnet("sign", model, "--key", key) == 0
    return model


def test_a_signed_file_says_by_whom_and_scores_as_before(
    signed: Path, public: str, metadata: ModelMetadata
) -> None:
    data, read = read_model_file(signed)
    assert f"{signed_by(data, 'part.onnx')} Plant 1" == public
    assert read.replaced(verification=None) == metadata
    require_signature(data, "part.onnx", (public,))
    assert describe_signature(data, "part.onnx", (public,)) == f"signed by {public}"


def test_every_changed_byte_that_is_hashed_again_is_found(signed: Path, public: str) -> None:
    data = signed.read_bytes()
    text = signature(data)
    assert text is not None
    end = data.index(text.encode())
    for position in range(0, end, 7):
        changed = bytearray(data)
        changed[position] ^= 1
        try:
            forged = with_signature(bytes(changed), text)
            signed.write_bytes(forged)
            read_model_file(signed)
        except (ModelFileError, IndexError, UnicodeDecodeError):
            continue  # no longer a model file
        with pytest.raises(ModelFileError, match="does not fit it"):
            require_signature(forged, "part.onnx", (public,))


def test_a_signature_does_not_fit_another_file(signed: Path, sound_model: Make) -> None:
    text = signature(signed.read_bytes())
    assert text is not None
    forged = with_signature(sound_model("other.onnx", factor=2.0).read_bytes(), text)
    with pytest.raises(ModelFileError, match=r"Take the file again from whoever signed it"):
        signed_by(forged, "other.onnx")


@pytest.mark.parametrize("text", ["", "ed25519:AA== AA==", "x", "ed25519:" + "A" * 400])
def test_what_is_no_signature_is_refused(text: str, sound_model: Make) -> None:
    with pytest.raises(ModelFileError, match="does not fit"):
        signed_by(with_signature(sound_model().read_bytes(), text), "part.onnx")


def test_calibrating_takes_the_signature_away(
    signed: Path, pictures: Make, capsys: Captured
) -> None:
    assert differnet("calibrate", signed, "--images", pictures(*range(40, 80))) == 0
    assert "part.onnx is no longer signed: `differnet sign`" in capsys.readouterr().err
    assert signature(read_model_file(signed)[0]) is None


def test_signing_again_replaces_the_signature(signed: Path, tmp_path: Path) -> None:
    other = new_key(tmp_path / "others")
    data, _ = sign(read_model_file(signed)[0], tmp_path / "others" / PRIVATE_NAME)
    assert signed_by(data, "part.onnx") == other
    assert data.count(b"differnet.signature") == 1


class TestTrust:
    def test_a_trusted_model_is_taken(self, signed: Path, public: str, other: str) -> None:
        EngineProcess(signed, trusted_keys=(other, public))

    def test_an_unsigned_model_is_refused(self, sound_model: Make, public: str) -> None:
        with pytest.raises(ModelFileError, match=r"part\.onnx is not signed.*`differnet sign FILE"):
            EngineProcess(sound_model(), trusted_keys=(public,))

    def test_one_signed_by_another_key_is_refused(self, signed: Path, other: str) -> None:
        with pytest.raises(ModelFileError, match=r"signed by ed25519:.*not among.*or add the key"):
            EngineProcess(signed, trusted_keys=(other,))

    def test_a_station_refuses_to_start_and_to_change(
        self, signed: Path, sound_model: Make, public: str, tmp_path: Path
    ) -> None:
        store = ModelStore(tmp_path / "models", lambda _: None)
        store.activate(store.add(signed).hash)
        unsigned = store.add(sound_model("unsigned.onnx")).hash
        config = ModelConfig(store="washer", backend="onnxruntime-cpu", trusted_keys=(public,))
        model = StationModel(PlannedModel("part", "model", config), lambda *_: None, store.root)
        with pytest.raises(ModelFileError, match="is not signed"):
            model.activate(unsigned)
        model.stop()
        store.activate(unsigned)
        with pytest.raises(ModelFileError, match="is not signed"):
            StationModel(PlannedModel("part", "model", config), lambda *_: None, store.root)

    def test_without_the_package_nothing_is_trusted(
        self, signed: Path, public: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
        monkeypatch.delattr("cryptography.hazmat.primitives.asymmetric.ed25519")
        with pytest.raises(SigningError, match="pip install"):
            EngineProcess(signed, trusted_keys=(public,))
        assert "can't be checked" in describe_signature(read_model_file(signed)[0], "part.onnx")


class TestCommands:
    def test_info_add_and_list_say_by_whom(
        self, signed: Path, sound_model: Make, public: str, tmp_path: Path, capsys: Captured
    ) -> None:
        key, store = public.split(" ")[0], ["--store", str(tmp_path / "models")]
        for model, says in ((signed, f"signed by {key}"), (sound_model("b.onnx"), "not signed")):
            for command in (["info", model], ["models", "add", model, *store]):
                assert differnet(*command) == 0
                assert says in capsys.readouterr().out
        assert differnet("models", "list", *store) == 0
        listed = capsys.readouterr().out
        assert f"signed by {key}" in listed
        assert "not signed" in listed

    def test_a_false_signature_is_not_added(
        self, signed: Path, sound_model: Make, tmp_path: Path, capsys: Captured
    ) -> None:
        text = signature(signed.read_bytes())
        forged = sound_model("forged.onnx", factor=3.0)
        forged.write_bytes(with_signature(forged.read_bytes(), str(text)))
        assert differnet("models", "add", forged, "--store", tmp_path / "models") == 2
        assert "does not fit it" in capsys.readouterr().err

    def test_check_says_what_to_do(
        self, signed: Path, public: str, other: str, tmp_path: Path, capsys: Captured
    ) -> None:
        def check(keys: str) -> tuple[int, str]:
            config = tmp_path / "line.toml"
            config.write_text(
                f'[station]\nstate = "state"\n[model]\npath = "{signed}"\n{keys}'
                '[web]\nenabled = false\n[camera.top]\nsource = "."\n'
            )
            return differnet("check", config), capsys.readouterr().out

        assert f"signed by {public.split(' ')[0]}" in check("")[1]
        code, said = check(f'trusted_keys = ["{public}"]\n')
        assert (code, f"signed by {public}" in said) == (0, True)
        code, said = check(f'trusted_keys = ["{other}"]\n')
        assert code != 0
        assert "WRONG  model.trusted_keys" in said
        code, _ = check('trusted_keys = ["ed25519:short"]\n')
        assert code == 2

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ([], "give FILE and --key KEY"),
            (["part.onnx"], "--key KEY"),
            (["part.onnx", "--new-key", "new"], "leave FILE out"),
            (["--name", "x"], "goes with --new-key"),
            (["--new-key", "keys"], "keys are never replaced"),
            (["--new-key", "new", "--name", "x" * 65], "can't be a key's name"),
            (["part.onnx", "--key", "keys/signing-key.pub"], "is no private key"),
            (["part.onnx", "--key", "open.pem"], "others can read this private key"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(
        self,
        options: list[str],
        says: str,
        signed: Path,
        key: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Captured,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (key.parent / PUBLIC_NAME).chmod(0o600)
        Path("open.pem").write_bytes(key.read_bytes())
        Path("open.pem").chmod(0o644)
        before = signed.read_bytes()
        assert differnet("sign", *options) == 2
        said = capsys.readouterr().err
        assert says in said
        assert "Traceback" not in said
        assert signed.read_bytes() == before
        assert key.stat().st_mode & 0o777 == 0o600
