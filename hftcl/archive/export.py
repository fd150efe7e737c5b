"""What the archive writes for people and their scripts: `models/model_metadata.csv` and `trained_stock_model.pkl`.

Both are copies that hftcl itself never reads, rewritten whole from the registry.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from hftcl import durable
from hftcl.archive.records import LastingNote, ModelRecord
from hftcl.archive.registry import Registry, RegistryState, compute_digest, read_verified

Refresh = Callable[[Registry, RegistryState], Path | None]

COLUMNS: Final = (  # what a person asks first comes first; scripts read the CSV by these names, so they stay
    "model_id",
    "trained_date",
    "val_sharpe",
    "is_deployed",
    "outcome",
    "reason",
    "sha256",
    "parent",
    "source",
    "synthetic",
    "family",
    "rows",
    "sessions",
    "tickers",
    "trained_from",
    "trained_to",
    "label_end",
    "exam_from",
    "exam_to",
    "served",
    "kept",
)


def make_safe(text: str) -> str:
    """Return `text` so that no spreadsheet runs it and no line of it can pass for another row.

    A cell that begins with = + - @ gets an apostrophe in front (OWASP, "CSV Injection"); CR, LF and everything else
    that does not print becomes its Python escape.
    """
    flat = text
    if not text.isprintable():  # most is, and the whole history is written several times a retrain
        flat = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
            for character in text
        )
    return (
        f"'{flat}" if flat.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")) else flat
    )


def write_csv(models: tuple[ModelRecord, ...]) -> bytes:
    """Return the readable history, UTF-8, one line a model in the order given, newest first."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_write_cell(value) for value in _write_row(model)] for model in models)
    return buffer.getvalue().encode()


def _write_row(model: ModelRecord) -> tuple[Any, ...]:
    fields = {
        "trained_date": model.trained_at.isoformat(timespec="seconds"),
        "tickers": " ".join(model.tickers),
        "served": json.dumps([[began.isoformat(), ended and ended.isoformat()] for began, ended in model.served]),
    }
    return tuple(fields[name] if name in fields else getattr(model, name) for name in COLUMNS)


def _write_cell(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float) else make_safe(str(value))


def refresh(registry: Registry, state: RegistryState, *, mending: bool) -> tuple[str, ...]:
    """Bring both copies up to date; return a line about each that could not be, and when `mending` about each that was.

    What the registry says is committed by then: a copy that cannot be written is no reason to take it for undone.
    """
    if state.damage:
        damage = f"{registry.csv} was left as it is: the registry's row {state.damage[0]} is damaged."
        return (LastingNote(damage),)
    return (
        *_tell_refresh(registry.csv, _keep_foreign_csv, _refresh_csv, registry, state, mending=mending),
        *_tell_refresh(registry.production_pkl, _keep_foreign_pkl, _refresh_pkl, registry, state, mending=mending),
    )


def _tell_refresh(
    path: Path, keep: Refresh, write: Refresh, registry: Registry, state: RegistryState, *, mending: bool
) -> Iterator[str]:
    """Keep what is a stranger's, write the copy, and yield what is to be told of it."""
    try:
        kept = keep(registry, state)
        is_written = write(registry, state) is not None
        is_old = path == registry.production_pkl and not is_written and _is_old_pkl(registry, state)
    except OSError as error:
        reason = error.strerror or str(error)
        yield LastingNote(
            f"{path} could not be written ({reason}). It is a copy: the next change of the archive writes it again."
        )
        return
    if is_written and kept is not None:
        yield describe_kept(path, kept)
    elif is_written and mending:
        yield f"{path} was not what the registry says; it has been written again."
    if is_old:
        yield LastingNote(f"{registry.locate_pkl(str(state.live_id))} is missing or altered: {path} is out of date.")


def _refresh_csv(registry: Registry, state: RegistryState) -> Path | None:
    wanted = write_csv(tuple(state.find_record(model_id) for model_id in reversed(state.rows)))
    if (registry.csv.read_bytes() if registry.csv.is_file() else b"") == wanted:
        return None
    durable.write_atomically(registry.csv, wanted)
    return registry.csv


def _keep_foreign_csv(registry: Registry, state: RegistryState) -> Path | None:
    """Keep a CSV that lists a model which the registry does not know before it is written over; return the copy.

    All that a lost registry, or another program, has left behind is not to be lost too.
    """
    if not registry.csv.is_file() or not _lists_others(registry.csv.read_bytes(), state):
        return None
    return durable.keep_copy(registry.csv)


def _lists_others(content: bytes, state: RegistryState) -> bool:
    """Whether a CSV lists a model that the registry does not know."""
    names = {line.partition(",")[0] for line in content.decode("utf-8", "replace").splitlines()[1:]}
    return not names <= state.rows.keys()


def _keep_foreign_pkl(registry: Registry, state: RegistryState) -> Path | None:
    """Keep a `trained_stock_model.pkl` that no model of ours wrote before it is written over; return the copy."""
    ours = {row["pkl_sha256"] for row in state.rows.values()}
    if state.live_id is None or not registry.production_pkl.is_file():
        return None
    if compute_digest(registry.production_pkl) in ours:
        return None
    if compute_digest(registry.locate_pkl(state.live_id)) != state.rows[state.live_id]["pkl_sha256"]:
        return None  # nothing will be written over it
    return durable.keep_copy(registry.production_pkl)


def describe_kept(path: Path, copy: Path) -> str:
    """Say where the content of a file of the user's is now."""
    return f"{path} was not written by hftcl; what it held is kept as {copy.name}."


def _is_old_pkl(registry: Registry, state: RegistryState) -> bool:
    """Whether the copy is not that of the model that serves."""
    live_id = state.live_id
    return live_id is not None and compute_digest(registry.production_pkl) != state.rows[live_id]["pkl_sha256"]


def _refresh_pkl(registry: Registry, state: RegistryState) -> Path | None:
    if state.live_id is None:
        return None
    sha256 = state.rows[state.live_id]["pkl_sha256"]
    if compute_digest(registry.production_pkl) == sha256:
        return None
    data = read_verified(registry.locate_pkl(state.live_id), sha256)
    if data is None:
        return None
    durable.write_atomically(registry.production_pkl, data)
    return registry.production_pkl
