"""Notes and tags on models: kept under seal, shown, saved from damage, and brought into an older registry."""

import contextlib
import json
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from hftcl.archive.note_rows import Note, Remarks, read_remarks
from hftcl.archive.notes import write_remarks
from hftcl.archive.rebuild import rebuild
from hftcl.archive.registry import Registry
from hftcl.errors import IntegrityError, ModelNotFoundError, UsageError
from hftcl.learning.stories.history import history
from tests.archive.sample_models import T0, archive_in, deployed
from tests.in_process import call
from tests.installed import one_line

LATER = T0 + timedelta(days=40)


def open_file(home: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(home / "models" / "registry.sqlite", isolation_level=None))


def test_what_is_written_stays_and_a_tag_can_be_taken_off(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    first, second = deployed(archive, 2)
    write_remarks(archive, first, note="  after the\nfee table ", tags=["fees", "july", "fees"], untags=(), now=LATER)
    write_remarks(archive, first, note="later", tags=(), untags=["july", "never-there"], now=LATER + timedelta(days=1))
    (kept,) = read_remarks(Registry(tmp_path)).items()
    assert kept == (
        first,
        Remarks(
            notes=(Note(at=LATER, text="after the fee table"), Note(at=LATER + timedelta(days=1), text="later")),
            tags=("fees",),
        ),
    )
    rows = {row.model_id: (len(row.notes), row.tags) for row in history(tmp_path, calendar="XNYS")}
    assert rows == {first: (2, ("fees",)), second: (0, ())}


@pytest.mark.parametrize(
    ("note", "tags"),
    [
        ("", []),
        (" \n ", []),
        ("x" * 1001, []),
        ("a\x1b[31m", []),
        (None, ["two words"]),
        (None, [""]),
        ("fine", ["a/b"]),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_of_it_is_written(
    tmp_path: Path, note: str | None, tags: list[str]
) -> None:
    archive = archive_in(tmp_path)
    (model,) = deployed(archive, 1)
    with pytest.raises(UsageError):
        write_remarks(archive, model, note=note, tags=["good", *tags], untags=(), now=LATER)
    with pytest.raises(ModelNotFoundError):
        write_remarks(archive, "20200101_000000", note="x", tags=(), untags=(), now=LATER)
    assert read_remarks(Registry(tmp_path)) == {}


def test_a_note_that_was_altered_is_damage_and_a_repair_keeps_the_others(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    (model,) = deployed(archive, 1)
    for text in ("one", "two"):
        write_remarks(archive, model, note=text, tags=(), untags=(), now=LATER)
    with open_file(tmp_path) as db:
        db.execute("UPDATE notes SET text = 'forged' WHERE text = 'one'")
    with pytest.raises(IntegrityError):
        read_remarks(Registry(tmp_path))
    notes = rebuild(Registry(tmp_path), LATER)
    assert any("notes" in line and "1" in line for line in notes), "what is lost is said"
    assert [note.text for note in read_remarks(Registry(tmp_path))[model].notes] == ["two"]


def test_an_older_registry_is_read_as_it_lies_and_gets_its_notes_with_the_first_one(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    (model,) = deployed(archive, 1)
    with open_file(tmp_path) as db:
        db.executescript("DROP TABLE notes; PRAGMA user_version = 5")
    before = (tmp_path / "models" / "registry.sqlite").read_bytes()
    assert read_remarks(Registry(tmp_path)) == {}
    assert history(tmp_path, calendar="XNYS")[0].notes == ()
    assert (tmp_path / "models" / "registry.sqlite").read_bytes() == before
    write_remarks(archive, model, note="the first", tags=(), untags=(), now=LATER)
    assert read_remarks(Registry(tmp_path))[model].notes == (Note(at=LATER, text="the first"),)


def test_the_command_writes_and_shows_and_history_shows_it_too(tmp_path: Path) -> None:
    (model,) = deployed(archive_in(tmp_path), 1)
    assert call(tmp_path, "note", model).stdout == f"Nothing is noted of {model}, and it has no tag.\n"
    done = call(tmp_path, "note", model, "after the fee table", "--tag", "fees", "--json")
    told = json.loads(done.stdout)
    assert (told["model_id"], told["tags"], told["notes"][0]["text"]) == (model, ["fees"], "after the fee table")
    shown = call(tmp_path, "history").stdout
    assert f"{model} is tagged fees" in shown
    assert "UTC: after the fee table" in shown
    production = tmp_path / "trained_stock_model.onnx"
    production.unlink()
    mended = json.loads(call(tmp_path, "note", model, "--tag", "july", "--json").stdout)
    assert [production.name in line for line in mended["repaired"]] == [True]
    production.unlink()
    assert f"repaired: {mended['repaired'][0]}" in call(tmp_path, "note", model, "--untag", "july").stdout
    production.unlink()
    assert call(tmp_path, "note", model).returncode == 0
    assert not production.exists(), "what only shows mends nothing"
    wrong = call(tmp_path, "note", model, "--tag", "two words")
    assert (wrong.returncode, "is one word" in one_line(wrong)) == (2, True)
