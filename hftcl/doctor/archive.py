"""Checks of the models: the registry and every archived file, the production file, and the model that serves."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from hftcl.archive import artifact, signing
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.export import write_csv
from hftcl.archive.fitness import find_market_kind, load_fit
from hftcl.archive.permission import find_permission
from hftcl.archive.registry import Registry, compute_digest
from hftcl.doctor.row import Context, Row, build_fault, fault, report_ok, report_warning
from hftcl.errors import HftclError, IntegrityError
from hftcl.formats import count, format_size
from hftcl.home import MODELS, Home

# The archive has every model that ever served, so the copy in production can be made again.
_REPAIR = "`hftcl doctor --repair` restores it from the archive."
# A copy for other readers, made from the model that serves: nothing is lost by writing it.
_REWRITE = "`hftcl doctor --repair` writes it again."


def check_models(context: Context) -> Iterator[Row]:
    """Whether the registry is whole, and each archived file what was archived, by hash and canary predictions."""
    archive = ModelArchive(Home.of(context.settings).root)
    broken = archive.verify_all()
    for model_id, why in broken:
        yield build_fault(f"archive {model_id}", IntegrityError(why))
    records = archive.list_models()
    kept = sum(record.kept for record in records)
    if not archive.database.exists():
        yield report_ok("archive", "no model yet")
    elif not broken:
        signed = " and signed" if signing.read_key() is not None else ""
        yield report_ok("archive", f"{count(len(records), 'model')}, the files of {kept} are whole{signed}")
    registered_paths = {archive.locate_onnx(record.model_id) for record in records}
    if strays := sorted(path.name for path in archive.folder.glob(MODELS) if path not in registered_paths):
        yield report_warning(
            "archive files",
            f"{len(strays)} in {archive.folder} are of no registered model, such as {strays[0]}",
            "Move them away.",
        )
    there = archive.csv.is_file()
    if there and not records:  # before the first model nothing has been written: it is a list of another program
        what = "is in the history" if archive.list_adopted() else "may be taken over: `hftcl init --adopt`"
        yield report_ok("archive csv", f"{archive.csv.name} of another program {what}")
    elif records and (not there or archive.csv.read_bytes() != write_csv(records)):
        yield report_warning(
            "archive csv", f"{archive.csv} is not what the registry says", "`hftcl doctor --repair` writes it."
        )
    yield from _check_folds(Home.of(context.settings).folds)


def _check_folds(folder: Path) -> Iterator[Row]:
    """Yield what is kept of a walk-forward that failed, and what of it no retrain goes on from."""
    sizes: dict[Path, int] = {}
    for path in sorted(folder.glob("*")):
        with contextlib.suppress(FileNotFoundError):  # a retrain deletes it at this moment
            sizes[path] = path.stat().st_size
    useless = [path for path in sizes if not _is_trained_here(path) and path.exists()]
    if useless:
        size = format_size(sum(sizes[path] for path in useless))
        yield report_warning(
            "archive folds",
            f"no retrain goes on from {len(useless)} of {count(len(sizes), 'file')} in {folder} ({size}): unfinished, "
            f"damaged or of other versions, such as {useless[0].name}",
            "Delete them while no retrain runs.",
        )
    elif sizes:
        size = format_size(sum(sizes.values()))
        folds = count(len(sizes), "fold")
        yield report_ok("archive folds", f"{folds} of a first record, {size}: the next retrain goes on from them")


def _is_trained_here(path: Path) -> bool:
    """Whether a file is a whole model that these versions of hftcl and its libraries trained."""
    try:
        return not artifact.list_changed_versions(artifact.describe(path).versions)
    except HftclError:
        return False


def check_edge(context: Context) -> Iterator[Row]:
    """Whether the record lets the bot trade real money, by what the bot would be told."""
    settings = context.settings
    permission = find_permission(settings)
    if settings.trade.live and not settings.trade.override_edge and permission.edge != "live":
        yield report_warning(
            "edge",
            permission.text,
            "The bot opens nothing with real money until a retrain says MAY TRADE: `hftcl record` shows what counts.",
        )
    else:  # where it may not trade that alone would read as sound beside the "ok"
        shut = "The bot trades with paper money only: [trade] live is not set."
        is_open = settings.trade.live or permission.edge == "live"
        yield report_ok("edge", permission.text if is_open else f"{permission.text.rstrip('.')}. {shut}")


def check_production(context: Context) -> Iterator[Row]:
    """Whether the production file is the model that was last deployed."""
    registry = Registry(Home.of(context.settings).root)
    state = registry.read_state()
    production, name = state.production, registry.production.name
    if state.intended_id is None:
        if production.state == "unknown":
            yield report_warning(
                "production",
                f"{name} is no model of this archive, and a bot that watches it reads what hftcl did not examine",
                "The first deployment replaces it and keeps it as "
                f"{name}.before; give hftcl another [paths] home where that is not wanted.",
            )
        else:
            yield report_warning("production", "no model serves", "`hftcl retrain --force` trains and examines one.")
        if registry.production_pkl.is_file():
            name = registry.production_pkl.name
            yield report_warning(
                "production pkl",
                f"{name} was not written by hftcl",
                f"The first deployment replaces it and keeps it as {name}.before.",
            )
    elif production.state == "missing":
        yield fault("production", f"{name} is missing; {state.intended_id} should serve", _REPAIR)
    elif production.state == "unknown":
        yield fault("production", f"{name} is not a model of this archive; {state.intended_id} should serve", _REPAIR)
    elif production.model_id != state.intended_id:
        yield report_warning(
            "production",
            f"{name} was replaced by hand with {production.model_id}; {state.intended_id} was deployed last",
            f"`hftcl rollback {state.intended_id}` puts it back; the next command that changes something records it.",
        )
    else:
        pinned = ", pinned by a rollback" if state.pin else ""
        yield report_ok("production", f"{production.model_id} serves{pinned}")
        copy = registry.production_pkl
        if compute_digest(copy) != state.rows[state.intended_id]["pkl_sha256"]:
            yield report_warning("production pkl", f"{copy.name} is not the model that serves", _REWRITE)


def check_live_model(context: Context) -> Iterator[Row]:
    """Whether the serving model predicts as it did when it was trained, reads these features, and is not too old."""
    registry = Registry(Home.of(context.settings).root)
    live = registry.find_live()
    if live is None:
        return
    model = load_fit(
        registry.production,
        sha256=live.sha256,
        market=find_market_kind(context.settings),
        features=artifact.list_our_features(context.settings),
    )
    changed = artifact.list_changed_versions(model.meta.versions)
    versions = f"; trained with {', '.join(changed)}, and predicts the same" if changed else ""
    bars = " on SYNTHETIC bars" if live.synthetic else ""
    age = (context.now - live.trained_at) / timedelta(days=1)
    detail = f"{live.model_id}, {age:.1f} days old{bars}, canary rows as trained{versions}"
    if age > 2 * context.settings.triggers.max_age_days:
        yield report_warning("model", detail, "Look why nothing newer was deployed: `hftcl history`, `hftcl check`.")
    else:
        yield report_ok("model", detail)
