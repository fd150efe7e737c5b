"""What a record is of: every setting is in the digest of the policy, or on a list of those that change no trade."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import pytest

from hftcl.archive.policy import hash_policy
from hftcl.config.tree import Leaf, list_all_leaves
from hftcl.settings import Exam, Settings
from tests.loop_cases import first_retrain

LEAVES: Final = list_all_leaves()

OF_THE_BARS: Final = "says where bars come from; each row of the record has the digest of those that came"
OF_A_ROOM: Final = "says where, when or how fast it is done, and who is told; the result is the same"
OF_THE_ACCOUNT: Final = "is of the bot's account; a record is of what the strategy decides, in fractions of capital"
OF_THE_JUDGE: Final = "says what a record must show, not what earned it"
OF_THE_WHEN: Final = "says when to retrain, which a person may do at any time"
LEFT_OUT: Final = {
    "paths": OF_A_ROOM,
    "files": OF_THE_BARS,
    "polygon": OF_THE_BARS,
    "alpaca": OF_THE_BARS,
    "synthetic": OF_THE_BARS,
    "market.columns": "changes nothing until a feature reads it, and then that feature is another one",
    "market.context": "changes nothing until a feature reads it, and then that feature is another one",
    "model.seed": "draws the same procedure again, and may not begin its record again",
    "edge": OF_THE_JUDGE,
    "triggers": OF_THE_WHEN,
    "schedule": OF_THE_WHEN,
    "search": "is how a person finds other settings, which then are another policy",
    "trade": OF_THE_ACCOUNT,
    "risk": OF_THE_ACCOUNT,
    "paper": OF_THE_ACCOUNT,
    "strict_paper": OF_THE_ACCOUNT,
    "alerts": OF_A_ROOM,
    "log": OF_A_ROOM,
    "archive": OF_A_ROOM,
    "compute": OF_A_ROOM,
}
"""Sections and settings that are in no digest, each with the reason."""

BESIDE: Final[dict[str, dict[str, object]]] = {
    "model.horizons": {"model.horizon_minutes": "auto"},
    **{f"{family}.": {"model.family": family} for family in ("ridge", "lightgbm", "xgboost", "vote")},
}
"""What must be set so that a setting is read at all; a key that ends in a point is of a whole section."""

OTHERS: Final[dict[str, object]] = {
    "market.source": "files",
    "market.calendar": "XLON",
    "market.watchlist": ("AAPL", "ZZZ"),
    "market.columns": ("imbalance",),
    "market.context": ("SPY",),
    "model.family": "ridge",
    "features.use": ("ret_5", "ret_15"),
    "features.drop": ("ret_5",),
    "search.values": {"model.horizon_minutes": (5,)},
}
"""Other values where none can be made from the default."""


def is_left_out(leaf: Leaf) -> bool:
    return leaf.key in LEFT_OUT or leaf.section in LEFT_OUT


def pick_other(leaf: Leaf) -> Any:
    """Return another value of a setting than its default; it may be one that `config` would refuse."""
    value, options = leaf.default, [*get_args(leaf.annotation)[:1], *get_args(get_args(leaf.annotation)[0])]
    if leaf.key in OTHERS:
        return OTHERS[leaf.key]
    for option in options:
        if get_origin(option) is Literal:
            others = [other for other in get_args(option) if other != value]
            return others[0] if others else 0.5
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 0.75 + 0.01 if isinstance(value, float) else value + 1
    return f"{value}x" if isinstance(value, str) else (*value, "x")  # type: ignore[misc]


def put(settings: Settings, key: str, value: object) -> Settings:
    section, _, name = key.partition(".")
    return replace(settings, **{section: replace(getattr(settings, section), **{name: value})})


def build_beside(leaf: Leaf) -> Settings:
    settings = Settings()
    for key, value in (BESIDE.get(leaf.key) or BESIDE.get(f"{leaf.section}.") or {}).items():
        settings = put(settings, key, value)
    return settings


@pytest.mark.hazard(78)
@pytest.mark.parametrize("key", [key for key, leaf in LEAVES.items() if not is_left_out(leaf)])
def test_another_value_is_another_policy(key: str, tmp_path: Path) -> None:
    leaf = LEAVES[key]
    if key == "features.modules":
        OTHERS[key] = (str(write_feature(tmp_path)),)
    settings = build_beside(leaf)
    assert hash_policy(put(settings, key, pick_other(leaf))) != hash_policy(settings)


def test_a_minimum_that_is_lowered_with_the_sessions_of_the_exam_is_no_choice_of_its_own() -> None:
    shorter = Settings(exam=Exam(sessions=8, min_sessions=8))
    assert hash_policy(shorter) == "45bc69dfb8bb94cf", "of the release before this setting counted"


def write_feature(folder: Path) -> Path:
    file = folder / "my_features.py"
    file.write_text(
        "import polars as pl\n\nfrom hftcl.model.feature import Feature\n\n"
        'expr = pl.col("minute") // 60\n'
        'FEATURES = (Feature(name="mine", group="own", expr=expr, lookback=0, formula="hour", reason="a test"),)\n'
    )
    return file


@pytest.mark.parametrize("key", [key for key, leaf in LEAVES.items() if is_left_out(leaf)])
def test_what_is_left_out_leaves_the_policy_what_it_is(key: str) -> None:
    assert hash_policy(put(Settings(), key, pick_other(LEAVES[key]))) == hash_policy(Settings())


def test_the_list_of_what_is_left_out_names_settings_that_are_there() -> None:
    assert set(LEFT_OUT) <= {*LEAVES, *(item.name for item in fields(Settings))}


def test_what_is_left_out_changes_no_trade_and_no_session_of_the_record(tmp_path: Path) -> None:
    """All at once, but for what makes other bars or draws again: positions and record are equal to the bit."""
    kept = {"paths", "model", "files", "polygon", "alpaca", "synthetic"}
    changed: dict[str, dict[str, object]] = {}
    for leaf in LEAVES.values():
        if is_left_out(leaf) and leaf.section not in kept and leaf.key != "compute.backend":
            changed.setdefault(leaf.section, {})[leaf.name] = pick_other(leaf)
    plain = first_retrain(tmp_path / "plain")
    other = first_retrain(tmp_path / "other", outcome="deployed", as_of=None, **changed)
    assert plain.challenger is not None
    assert other.challenger is not None
    assert other.challenger.positions_sha256 == plain.challenger.positions_sha256
    assert other.challenger.pnl_by_session == plain.challenger.pnl_by_session
    assert (other.record_digest, other.record_sharpe) == (plain.record_digest, plain.record_sharpe)
    assert other.policy_digest == plain.policy_digest
