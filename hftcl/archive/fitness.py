"""May this model serve this market? One answer for the bot, rollback, the exam, check and retrain. Pure."""

from hftcl.archive.artifact import ModelMeta
from hftcl.errors import NoDataError
from hftcl.settings import Market


def require_same_hours(meta: ModelMeta, market: Market) -> None:
    """Raise NoDataError where `meta` is of a model that knows other sessions than `market` has.

    Its features count minutes from another open and its labels end at another close: the figures would mean nothing.
    """
    if meta.calendar != market.calendar:
        raise NoDataError(
            f"Model {meta.model_id} was trained on sessions of {meta.calendar}, and [market] calendar is "
            f"{market.calendar}. Set it to {meta.calendar}, or let another model serve: `hftcl rollback MODEL_ID`."
        )
    if meta.extended_hours != market.extended_hours:
        theirs, ours = ("with", "without") if meta.extended_hours else ("without", "with")
        raise NoDataError(
            f"Model {meta.model_id} was trained {theirs} extended hours, and these bars are {ours} them. Set [market] "
            f"extended_hours = {str(meta.extended_hours).lower()}, or let another model serve: "
            "`hftcl rollback MODEL_ID`."
        )
