"""With a signing key, only what was signed with it is a model; whoever can write the folder cannot make one."""

import hashlib
from pathlib import Path

import onnx
import pytest

from hftcl import config
from hftcl.archive import artifact
from hftcl.archive.artifact import build, describe, load, pick_canary_rows
from hftcl.errors import ConfigError, IntegrityError
from tests.archive.test_artifact import META, forest, rows
from tests.config.configured import faults, loaded

KEY, OTHER = "canary-signing-key-0001", "canary-signing-key-0002"


@pytest.fixture(scope="module")
def graph() -> bytes:
    return forest()


@pytest.fixture(autouse=True)
def without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HFTCL_SIGNING_KEY", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def built(graph: bytes, key: str | None, monkeypatch: pytest.MonkeyPatch) -> bytes:
    if key is None:
        monkeypatch.delenv("HFTCL_SIGNING_KEY", raising=False)
    else:
        monkeypatch.setenv("HFTCL_SIGNING_KEY", key)
    return build(graph, META, pick_canary_rows(rows()))


@pytest.mark.hazard(18)
def test_only_a_file_signed_with_this_key_loads(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned, signed, wrong = (built(graph, key, monkeypatch) for key in (None, KEY, OTHER))
    monkeypatch.setenv("HFTCL_SIGNING_KEY", KEY)
    assert load(signed).meta.model_id == META.model_id
    for data, told in ((unsigned, "is not signed, and"), (wrong, "not signed with this")):
        for read in (load, describe):
            with pytest.raises(IntegrityError, match=told):
                read(data)
    monkeypatch.delenv("HFTCL_SIGNING_KEY")
    assert load(signed).predict(rows(5)).tobytes() == load(unsigned).predict(rows(5)).tobytes()


@pytest.mark.hazard(18)
def test_a_signature_moved_to_another_model_is_refused(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    signed = built(graph, KEY, monkeypatch)
    tail = 82  # bytes of an entry with 12 letters and 64 digits
    signature = signed[-2 * tail : -tail]
    monkeypatch.delenv("HFTCL_SIGNING_KEY")
    other = build(graph, META, pick_canary_rows(rows(seed=2)))
    body = other[:-tail] + signature
    forged = body + other[-tail:-64] + hashlib.sha256(body).hexdigest().encode()
    assert load(forged).meta.model_id == META.model_id, "whole but for the signature"
    monkeypatch.setenv("HFTCL_SIGNING_KEY", KEY)
    with pytest.raises(IntegrityError, match="not signed with this"):
        load(forged)


def test_the_slices_of_an_exam_are_signed_too(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with_slices = artifact.add_exam(built(graph, KEY, monkeypatch), {}, None)
    assert load(with_slices).meta.exam_slices == {}
    assert KEY.encode() not in with_slices
    onnx.checker.check_model(onnx.ModelProto.FromString(with_slices))


@pytest.mark.parametrize("theirs", [None, KEY, OTHER], ids=["none", "ours", "another"])
@pytest.mark.parametrize("ours", [None, KEY], ids=["without_key", "with_key"])
def test_a_model_that_a_worker_built_is_signed_with_our_key_whatever_the_worker_has(
    graph: bytes, theirs: str | None, ours: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs_built, ours_built = built(graph, theirs, monkeypatch), built(graph, ours, monkeypatch)
    assert artifact.sign(theirs_built) == ours_built
    assert load(artifact.sign(theirs_built)).meta.model_id == META.model_id


def test_the_key_comes_from_a_credential_of_the_unit_as_well(
    graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = built(graph, KEY, monkeypatch)
    unsigned = built(graph, None, monkeypatch)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name, text in (("HFTCL_SIGNING_KEY", f"{KEY}\n"), ("env", f"HFTCL_SIGNING_KEY={KEY}\n")):
        (tmp_path / name).write_text(text)
        load(signed)
        with pytest.raises(IntegrityError, match="not signed"):
            load(unsigned)
        (tmp_path / name).unlink()


def test_a_key_that_is_too_short_is_refused_and_one_beside_the_models_too(
    graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="fewer than 16"):
        built(graph, "short", monkeypatch)
    (tmp_path / ".env").write_text(f"HFTCL_SIGNING_KEY={KEY}\n")
    (told,) = faults(tmp_path, None)
    assert "beside the models" in told
    assert KEY not in told


def test_the_key_is_no_setting_that_is_misspelt(tmp_path: Path) -> None:
    assert loaded(tmp_path, HFTCL_SIGNING_KEY=KEY).settings == config.load(None, environ={}, cwd=tmp_path).settings
