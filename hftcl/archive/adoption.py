"""What a script of before hftcl has left, taken over: the lines of its model_metadata.csv, and model files of hftcl.

Only reads what was there: no file of the user's is changed, renamed or deleted, no pickle is opened, no model serves by
this. Writes the registry alone.
"""

import contextlib
import csv
import io
import json
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hftcl import durable
from hftcl.archive import artifact
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.export import COLUMNS
from hftcl.archive.production import format_utc
from hftcl.archive.rebuild import build_row, rebuild
from hftcl.archive.records import AdoptedModel, Moment, parse_model_id, read_moment, read_trained_at
from hftcl.archive.registry import Registry, compute_digest, read_verified, require_length, write_verified
from hftcl.archive.schema import faults
from hftcl.errors import HftclError, IntegrityError, NoDataError, UsageError
from hftcl.formats import count
from hftcl.sqlite import transaction

_LARGEST_CSV: Final = 64 * 2**20  # a line a model is 200 bytes: far more than a life of retrains
_SPARE_BYTES: Final = 1 << 20  # for the registry and its journal
_LONGEST: Final = 200  # characters of one cell that are kept: enough for a path, too few to flood a terminal
# What scripts call the same thing; the first that a file has counts. Compared without case, blanks and underscores.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "name": ("modelid", "model", "modelname", "id", "version", "modelversion", "modelpath", "modelfile", "filename"),
    "trained_at": (
        *("traineddate", "trainedat", "trainingdate", "traindate", "trained", "createdat", "created", "timestamp"),
        *("datetime", "date"),
    ),
    "val_sharpe": ("valsharpe", "validationsharpe", "sharperatio", "valsharperatio", "sharpe", "testsharpe"),
    "is_deployed": ("isdeployed", "deployed", "islive", "live", "isactive", "active", "inproduction"),
    "rows": ("rows", "nsamples", "samples", "numsamples", "trainingsamples", "trainsamples", "nrows", "ntrain"),
    "family": ("family", "modeltype", "algorithm", "type"),
}
_TRUE: Final = frozenset({"1", "true", "yes", "y", "t", "1.0"})
_MODEL_FILES: Final = (".onnx", ".pkl", ".pickle", ".joblib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What was taken over, and what was not and why. lines: taken from `file`. models: ids of archived model files."""

    file: str | None
    lines: int
    models: tuple[str, ...]
    notes: tuple[str, ...]
    left: tuple[str, ...]


def find_metadata(registry: Registry) -> Path | None:
    """Return the CSV of another program under the home, None where there is none; what a deployment kept aside, too."""
    name = registry.csv.name
    folders = (registry.folder, registry.home)
    for path in (folder / f"{name}{end}" for end in ("", ".before", ".before.2") for folder in folders):
        if path.exists() and not _is_ours(path):
            return path
    return None


def _is_ours(path: Path) -> bool:
    durable.require_regular(path)
    with path.open("rb") as file:
        return file.readline(4096).startswith(",".join(COLUMNS[:5]).encode())


def read_metadata(path: Path) -> tuple[tuple[AdoptedModel, ...], tuple[str, ...]]:
    """Return the models that the CSV of another program lists, in its order, and a line about each line left out.

    Commas, semicolons or tabs; any order of columns; a time without a zone is of this machine's. Raises NoDataError
    for a file that names no model, IntegrityError for one too large to be such a list, StorageError, OSError.
    """
    durable.require_regular(path)
    if (size := path.stat().st_size) > _LARGEST_CSV:
        raise IntegrityError(f"{path} has {size} bytes: no list of models. Move it away, and run it again.")
    text = path.read_bytes().decode("utf-8-sig", "backslashreplace").replace("\0", " ")
    head = text.partition("\n")[0]
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=_find_delimiter(head)))
    except csv.Error as error:
        raise IntegrityError(f"{path} cannot be read as CSV: {error}. Nothing of it was taken over.") from error
    places = _find_columns(table[0] if table else [])
    if "name" not in places and "trained_at" not in places:
        raise NoDataError(
            f"{path} has no column that names a model, such as model_id or trained_date: nothing of it was taken over. "
            f"Its first line is {_clean(head)!r}."
        )
    models: list[AdoptedModel] = []
    left: list[str] = []
    for number, row in enumerate(table[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        model = _read_line(table[0], places, row)
        if model is None:
            left.append(f"{path.name}, line {number}: it names no model")
        else:
            models.append(model)
    return tuple(models), tuple(left)


def _find_delimiter(head: str) -> str:
    return max(",;\t", key=head.count)


def _find_columns(head: Sequence[str]) -> dict[str, int]:
    """Return for each of our fields the column that holds it."""
    names = ["".join(c for c in cell.lower() if c.isalnum()) for cell in head]
    return {
        field: names.index(known)
        for field, spellings in _NAMES.items()
        for known in [next((name for name in spellings if name in names), None)]
        if known is not None
    }


def _read_line(head: Sequence[str], places: Mapping[str, int], row: Sequence[str]) -> AdoptedModel | None:
    cells = {field: _clean(row[at]) if at < len(row) else "" for field, at in places.items()}
    name = cells.get("name", "") or cells.get("trained_at", "")
    if not name:
        return None
    return AdoptedModel(
        name=name,
        trained_at=_read_time(cells.get("trained_at", "")) or _read_time(name),
        val_sharpe=_read_number(cells.get("val_sharpe", "")),
        was_deployed=cells.get("is_deployed", "").lower() in _TRUE,
        rows=int(_read_number(cells.get("rows", "")) or 0),
        family=cells.get("family", ""),
        told={_clean(column): _clean(cell) for column, cell in zip(head, row, strict=False)},
    )


def _clean(cell: str) -> str:
    """Return a cell as one printable line of bounded length."""
    flat = "".join(character if character.isprintable() else " " for character in cell).strip()
    return flat if len(flat) <= _LONGEST else f"{flat[:_LONGEST]}..."


def _read_time(text: str) -> datetime | None:
    """Return the moment in `text`, UTC: ISO 8601 or YYYYMMDD_HHMMSS; without a zone it is this machine's."""
    try:
        digits = parse_model_id(Path(text).stem) if text else ""
    except UsageError:
        digits = ""
    try:
        moment = datetime.fromisoformat(f"{digits[:8]}T{digits[9:]}" if digits else text)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _read_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 2**53 else None  # what SQLite and JSON hold exactly


def adopt(archive: ModelArchive, now: Moment) -> Adoption:
    """Take over what another program, or an archive of hftcl without its registry, has left under the home.

    Run again, it takes what is new. Raises NoDataError where there is nothing of that kind, and HftclError.
    """
    with faults("adopting what was there before"):
        notes = list(rebuild(archive, now))
        file = find_metadata(archive)
        models, left = read_metadata(file) if file is not None else ((), ())
        files = find_model_files(archive)
        if file is None and not files and not notes:
            raise NoDataError(
                f"{archive.home} has no {archive.csv.name} of another program and no model file that hftcl does not "
                "know. Run it in the folder of your models, or set [paths] home to that folder."
            )
        described = {path: describe_model_file(path) for path in files}
        left = (*left, *(text for text in described.values() if isinstance(text, str)))
        ours = {path: meta for path, meta in described.items() if isinstance(meta, artifact.ModelMeta)}
        added, more = _archive_files(archive, ours, now)
        new = _insert_lines(archive, models, now)
    if file is not None and len(models) > new:
        notes.append(f"{count(len(models) - new, 'line')} of {file} had been taken over before.")
    return Adoption(
        file=str(file) if file else None,
        lines=new,
        models=added,
        notes=tuple(notes),
        left=(*left, *more),
    )


def _insert_lines(archive: ModelArchive, models: Sequence[AdoptedModel], now: Moment) -> int:
    if not models:
        return 0
    known = {model.model_id for model in archive.list_models()}
    with archive.hold_registry(now, "adopting the history") as (db, _), transaction(db):
        return insert_adopted(
            db, (model for model in models if model.name not in known), at=format_utc(read_moment(now))
        )


def _archive_files(
    archive: ModelArchive, files: Mapping[Path, artifact.ModelMeta], now: Moment
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Archive model files of hftcl under their own ids; return the ids, and a line about each that stays outside."""
    added: list[str] = []
    left: list[str] = []
    for path, meta in files.items():
        try:
            trained_at = read_trained_at(parse_model_id(meta.model_id))
            _archive_file(archive, path, meta, trained_at, now)
        except (IntegrityError, UsageError, ValueError) as fault:
            left.append(f"{path} stays as it is: {fault}")
        else:
            added.append(meta.model_id)
    return tuple(added), tuple(left)


def _archive_file(
    archive: ModelArchive, path: Path, meta: artifact.ModelMeta, trained_at: datetime, now: Moment
) -> None:
    model_id = meta.model_id
    target, pkl_target = archive.locate_onnx(model_id), archive.locate_pkl(model_id)
    pkl, sha256 = path.with_suffix(".pkl"), compute_digest(path)
    if sha256 is None or (data := read_verified(path, sha256)) is None:
        raise IntegrityError(f"{path} changes while it is read.")
    if pkl.is_file():
        require_length(pkl_target, pkl.stat().st_size)
    artifact.load(data)  # its canary predictions too: what is archived can be asked
    with archive.hold_registry(now, "archiving a model file") as (db, _), contextlib.ExitStack() as stack:
        if model_id in archive.read_state_in(db).rows or (target.exists() and target != path):
            raise IntegrityError(f"the archive has another model {model_id}.")
        durable.require_space(archive.folder, 2 * len(data) + _SPARE_BYTES, "archiving a model file")
        if target != path:  # else nothing is written but the row: both files are the user's, and not to be swept
            if pkl_target.exists():
                raise IntegrityError(f"{pkl_target} is there already. Move it beside it, as {pkl.name}.")
            stack.enter_context(archive.hold_id(db, model_id))
            write_verified(target, data)
            if compute_digest(pkl) is not None:
                write_verified(pkl_target, pkl.read_bytes())
        row = build_row(meta, model_id, trained_at, sha256, compute_digest(pkl_target) or "")
        row["reason"] = f"{row['reason']}; adopted from {path.name}"
        with transaction(db):
            db.execute(f"INSERT INTO models ({', '.join(row)}) VALUES ({', '.join(f':{n}' for n in row)})", row)  # noqa: S608 - our names


def insert_adopted(db: sqlite3.Connection, models: Iterable[AdoptedModel], *, at: str) -> int:
    """Write the lines in the transaction that is open, one that is there already once; return how many are new."""
    known = {tuple(row) for row in db.execute("SELECT name, told FROM adopted")}
    new = 0
    for model in models:
        told = json.dumps(model.told, sort_keys=True)
        if (model.name, told) in known:
            continue
        known.add((model.name, told))
        new += 1
        db.execute(
            "INSERT INTO adopted (adopted_at, name, trained_at, val_sharpe, was_deployed, rows, family, told) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                at,
                model.name,
                model.trained_at.isoformat() if model.trained_at else None,
                model.val_sharpe,
                int(model.was_deployed),
                model.rows,
                model.family,
                told,
            ),
        )
    return new


def find_model_files(registry: Registry) -> tuple[Path, ...]:
    """Return the model files beside the CSV and in the archive's folder that the registry does not know, in order."""
    state = registry.read_state()
    ours = {row["sha256"] for row in state.rows.values()} | {row["pkl_sha256"] for row in state.rows.values()}
    folders = dict.fromkeys((registry.folder, registry.home))
    return tuple(
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in _MODEL_FILES
        and path not in (registry.production, registry.production_pkl)  # the first deployment keeps them as NAME.before
        and not (folder == registry.folder and _is_being_archived(registry, path))
        and compute_digest(path) not in ours
    )


def _is_being_archived(registry: Registry, path: Path) -> bool:
    """Whether another process writes it now, or was killed while it did: then recovery deletes it."""
    return registry.files.claim(path.stem.removeprefix("model_")).exists()


def describe_model_file(path: Path) -> artifact.ModelMeta | str:
    """Return what a model file of hftcl says about itself, for any other file why it stays where it is."""
    if path.suffix.lower() != ".onnx":
        return (
            f"{path} stays as it is: hftcl opens no pickle, because that runs code, and it cannot know what the model "
            "looks at"
        )
    try:
        return artifact.describe(path)
    except HftclError as fault:
        return f"{path} stays as it is: {str(fault).removeprefix(f'The model file {path} ')}"
