"""Makes the registry again from what its damage or loss has left: whole rows, self-describing model files, the CSV.

It writes the registry, and the archived file of the serving model where only the production file is left of it; no
whole model file, and not the production file, is touched.
"""

import contextlib
import csv
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from hftcl import durable, sqlite
from hftcl.archive import artifact
from hftcl.archive.looks import Look, build_look_row
from hftcl.archive.production import format_utc
from hftcl.archive.records import Moment, build_model_id, read_moment, read_trained_at
from hftcl.archive.registry import Registry, compute_digest
from hftcl.archive.schema import REGISTRY, faults, find_witness
from hftcl.errors import HftclError, IntegrityError, StorageError
from hftcl.formats import count
from hftcl.home import MODELS

_REASON: Final = "rebuilt by `hftcl doctor --repair`"
_OUTCOMES: Final = ("deployed", "rejected", "inconclusive")
_LOST_LOOKS: Final = (
    "Tries that only the registry knew, such as dry runs, exams at other sessions, searches, and models that neither a "
    "file nor the CSV tells, are lost: until those sessions have left the exam, the judge lets a candidate pass more "
    "easily than it should."
)
_WAIT_S: Final = 10.0  # as long as any other change of the archive waits
_LATEST: Final = datetime.max.replace(tzinfo=UTC)
Rows = dict[str, list[dict[str, object]]]


def rebuild(registry: Registry, now: Moment) -> tuple[str, ...]:
    """Rebuild a registry that is damaged, emptied or lost; return a line about each thing done, none where it is whole.

    The damaged file is kept beside it. A model whose row is lost comes back from its own file and the CSV; what neither
    tells, such as the verdict's figures and the record of the policy, is lost and said to be. Raises HftclError, an
    IntegrityError where nothing is left to rebuild from.
    """
    if not registry.folder.is_dir() and find_witness(registry.files) is None:
        return ()
    with faults("rebuilding the registry"):
        durable.make_folder(registry.folder)
        with durable.lock(registry.files.registry_lock, "change of the archive", wait_s=_WAIT_S):
            rows, damage = _salvage(registry.database)
            witness = find_witness(registry.files)
            if not damage and (rows["models"] or witness is None):
                return ()
            lost_looks = not rows["models"] or any("looks" in what for what in damage)
            damage = damage or [f"{registry.database} knows no model"]
            notes = [f"Not what was written: {what}." for what in damage[:5]]
            notes += _copy_production(registry, rows)
            lines = _read_csv(registry.csv)
            for path in sorted(registry.folder.glob(MODELS)):
                notes += _add_model(registry, rows, path, lines)
            told = {f"the row models {known}" for known in (*_add_looks(rows, lines), *_list_ids(rows))}
            if lost_looks or any(what.startswith("the row models") and what not in told for what in damage):
                notes.append(_LOST_LOOKS)
            if witness is not None and not rows["models"]:
                left_out = [note for note in notes if note.startswith(str(registry.folder))]
                raise IntegrityError(
                    f"{witness} tells of models, and neither a row nor a model file of one is whole: nothing can be "
                    f"rebuilt. {' '.join([*left_out, ''])}Restore {registry.folder} from a backup; or move what is "
                    "left of it away, with the production file, and hftcl begins a new archive."
                )
            if not rows["deployments"]:
                rows["deployments"] = _list_deployments(registry, rows, lines, read_moment(now))
            return (*notes, *_replace(registry, rows, read_moment(now)))


def _list_ids(rows: Rows) -> tuple[str, ...]:
    return tuple(str(row["model_id"]) for row in rows["models"])


def _salvage(path: Path) -> tuple[Rows, list[str]]:
    """Return the whole rows of each table, and what is damaged."""
    rows: Rows = {table: [] for table in REGISTRY.sealed}
    damage: list[str] = []
    if not path.exists():
        return rows, damage
    with contextlib.closing(sqlite.open_to_salvage(path)) as db:
        db.row_factory = sqlite3.Row
        later: tuple[str, ...] = ()
        with contextlib.suppress(sqlite3.Error):
            later = REGISTRY.list_later_tables(sqlite.ask_version(db))
        for table in (name for name in REGISTRY.sealed if name not in later):
            try:
                whole, lost = sqlite.read_rows(db, REGISTRY, table, "rowid")  # the order in which models came
            except (sqlite3.Error, UnicodeDecodeError, IndexError) as error:
                if path.stat().st_size:
                    damage.append(f"the table {table} ({error})")
                continue
            rows[table] = [{name: row[name] for name in row.keys() if name != "seal"} for row in whole]  # noqa: SIM118
            damage += [f"the row {name}" for name in lost]
        with contextlib.suppress(sqlite3.Error):
            fault = sqlite.find_page_fault(db)
            damage += [fault] if fault else []
    return rows, damage


def _read_csv(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the lines of the CSV that are of our export, by model; none where it cannot be read."""
    if not path.is_file():
        return {}
    try:
        lines = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    except (UnicodeDecodeError, csv.Error):
        return {}
    return {line["model_id"]: line for line in lines if line.get("model_id") and line.get("sha256")}


def _copy_production(registry: Registry, rows: Rows) -> Iterator[str]:
    """Archive the production file where it is a whole model of hftcl, and neither its row nor its file is left."""
    if compute_digest(registry.production) in {None, *(row["sha256"] for row in rows["models"])}:
        return
    try:
        meta = artifact.describe(registry.production)
        read_trained_at(meta.model_id)
    except StorageError:
        raise
    except (HftclError, ValueError):  # a model of another program
        return
    path = registry.locate_onnx(meta.model_id)
    try:
        artifact.describe(path)
    except IntegrityError:
        durable.write_atomically(path, registry.production.read_bytes())
        yield f"{path} was missing or altered; it was restored from the production file."


def _add_model(registry: Registry, rows: Rows, path: Path, lines: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    model_id = path.stem.removeprefix("model_")
    if any(row["model_id"] == model_id for row in rows["models"]) or registry.files.claim(model_id).exists():
        return
    try:
        meta = artifact.describe(path)
        trained_at = read_trained_at(model_id)
    except StorageError:  # a disk that fails now is no reason to forget the model for good
        raise
    except (HftclError, ValueError) as error:
        yield f"{path} was left out: {error}"
        return
    sha256 = compute_digest(path)
    line = lines.get(model_id, {})
    line = line if line.get("sha256") == sha256 else {}
    val_sharpe = _read_number(line.get("val_sharpe"))
    outcome = line.get("outcome", "")
    if meta.model_id != model_id or outcome not in _OUTCOMES:
        outcome = "inconclusive"
    reason = line.get("reason") or "its verdict was lost with the registry"
    row = build_row(meta, model_id, trained_at, sha256 or "", compute_digest(registry.locate_pkl(model_id)) or "")
    row |= {
        "outcome": outcome,
        "reason": f"{reason}; {_REASON}",
        "sessions": _count(line.get("sessions")),
        "val_sharpe": meta.exam_look.sharpe if meta.exam_look and val_sharpe is None else val_sharpe,
    }
    rows["models"].insert(_find_place(rows, row, tuple(lines)), row)
    yield f"The row of model {model_id} was rebuilt from {path}{' and the CSV' if line else ''}."
    look = meta.exam_look or _guess_look(meta.model_id, meta.exam_from, meta.exam_to, val_sharpe)
    if look is not None:
        rows["looks"].append(build_look_row(look, synthetic=meta.synthetic, at=format_utc(trained_at)))
    elif meta.exam_from is not None and meta.exam_slices is None and not line:  # else it had no Sharpe ratio
        yield f"The exam of model {model_id} is told by neither its file nor the CSV: it does not count as a try."


def _find_place(rows: Rows, row: Mapping[str, object], newest_first: Sequence[object]) -> int:
    """Return where a model stood among the others: as the attempts tell or else the CSV, since a clock may have run
    ahead; by its id where neither does.
    """
    attempts = [attempt["model_id"] for attempt in rows["attempts"]]
    own = row["model_id"]
    for place, other in enumerate(model["model_id"] for model in rows["models"]):
        for order in (attempts, newest_first[::-1]):
            if own in order and other in order:
                is_later = order.index(other) > order.index(own)
                break
        else:
            is_later = str(other) > str(own)
        if is_later:
            return place
    return len(rows["models"])


def _add_looks(rows: Rows, lines: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Add the exams of models of which the CSV alone is left, as of those that were pruned; yield their ids."""
    known = {row["model_id"] for row in rows["models"]}
    for model_id, line in lines.items():
        if model_id in known:
            continue
        try:
            at = read_trained_at(model_id)
            first, last = (date.fromisoformat(line[name]) for name in ("exam_from", "exam_to"))
        except (KeyError, TypeError, ValueError):  # it sat no exam, or somebody has edited the line
            continue
        look = _guess_look(model_id, first, last, _read_number(line.get("val_sharpe")))
        if look is not None:
            rows["looks"].append(build_look_row(look, synthetic=line.get("synthetic") == "True", at=format_utc(at)))
            yield model_id


def _guess_look(model_id: str, first: date | None, last: date | None, sharpe: float | None) -> Look | None:
    """Return the exam of a model that does not tell it: each day from its first to its last stands for the sessions.

    Which policy made it is not known: as one of its own it counts as a try in the luck of any other.
    """
    if first is None or last is None or last < first or sharpe is None:
        return None
    sessions = tuple(first + timedelta(days=day) for day in range((last - first).days + 1))
    return Look(policy=model_id, positions=model_id, sharpe=sharpe, sessions=sessions)


def build_row(
    meta: artifact.ModelMeta, model_id: str, trained_at: datetime, sha256: str, pkl_sha256: str
) -> dict[str, object]:
    """Return the registry's row of a model as far as its own file tells it: no verdict, so that it cannot deploy."""
    return {
        "model_id": model_id,
        "trained_at": format_utc(trained_at),
        "sha256": sha256,
        "pkl_sha256": pkl_sha256,
        "outcome": "inconclusive",
        "reason": "no exam of this archive has judged it",
        "source": meta.source,
        "synthetic": int(meta.synthetic),
        "family": meta.family,
        "rows": meta.rows,
        "sessions": 0,
        "tickers": json.dumps(meta.tickers),
        "trained_from": meta.trained_from.isoformat(),
        "trained_to": meta.trained_to.isoformat(),
        "label_end": format_utc(meta.label_end),
        "exam_from": meta.exam_from.isoformat() if meta.exam_from else None,
        "exam_to": meta.exam_to.isoformat() if meta.exam_to else None,
        "val_sharpe": None,
        "report": "{}",
        "kept": 1,
    }


def _count(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _read_number(text: str | None) -> float | None:
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _read_time(text: str | None) -> datetime:
    """Return a time of the CSV, UTC; the end of one that serves on lies after all others."""
    return _LATEST if text is None else datetime.fromisoformat(text).astimezone(UTC)


def _list_deployments(
    registry: Registry, rows: Rows, lines: Mapping[str, Mapping[str, str]], now: datetime
) -> list[dict[str, object]]:
    """Return who served when, as the CSV tells it; where it does not, what production is serves from now on."""
    known = {str(row["sha256"]): str(row["model_id"]) for row in rows["models"]}
    spans: list[tuple[datetime, datetime, str]] = []
    for model_id in known.values():
        try:
            told = json.loads(lines.get(model_id, {}).get("served", "[]"))
            spans += [(_read_time(began), _read_time(ended), model_id) for began, ended in told]
        except (ValueError, TypeError):
            continue
    live = known.get(compute_digest(registry.production) or "")
    spans.sort()  # one that ended where it began before the one that began then
    if live is not None and (not spans or spans[-1][2] != live):
        spans.append((now, _LATEST, live))
    before = [None, *(model_id for *_, model_id in spans)]
    return [
        {
            "number": number,
            "model_id": model_id,
            "replaced": replaced,
            "at": format_utc(began),
            "kind": "restore",
            "reason": _REASON,
            "by": "doctor",
            "pending": 0,
            "unpinned_at": None,
        }
        for number, ((began, _, model_id), replaced) in enumerate(zip(spans, before, strict=False), start=1)
    ]


def _replace(registry: Registry, rows: Rows, now: datetime) -> Iterator[str]:
    """Put a registry with `rows` in the place of the old one, which is kept beside it. Killed, either is there."""
    path = registry.database
    made = registry.files.registry_rebuilt
    sqlite.remove(made)
    models = {row["model_id"] for row in rows["models"]}
    with contextlib.closing(sqlite.open_to_write(made, REGISTRY)) as db, sqlite.transaction(db):
        for table in REGISTRY.sealed:  # models first: deployments refer to them
            for row in rows[table]:
                if table != "deployments" or row["model_id"] in models:
                    names = ", ".join(row)
                    places = ", ".join(f":{name}" for name in row)
                    db.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", row)  # noqa: S608 - our names
    if path.exists():
        kept = registry.files.locate_damaged_registry(build_model_id(now))
        durable.write_atomically(kept, path.read_bytes())
        yield f"The damaged registry was kept as {kept}."
    sqlite.remove_journal(path)  # it is of the damaged file
    made.replace(path)
    durable.sync_folder(path.parent)
    yield f"{path} was rebuilt with {count(len(models), 'model')}; pin and record hold where their rows were whole."
