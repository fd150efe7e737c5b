"""What hftcl.toml, environment and arguments mean, and how faults in them are told."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from hftcl import config
from hftcl.config.tree import Leaf, list_all_leaves
from hftcl.errors import ConfigError, UsageError
from hftcl.settings import Exam, Market, Model
from tests.config.configured import faults, loaded

NUMBERS = tuple(leaf for leaf in list_all_leaves().values() if type(leaf.default) in {int, float})


# Which value holds, and where it came from


def test_without_any_file_the_defaults_hold_with_absolute_paths(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    assert found.file is None
    assert set(found.origins.values()) == {"default"}
    assert found.settings.market == Market()
    assert found.settings.paths.home == str(tmp_path)
    assert found.settings.files.folder == str(tmp_path / "data")


def test_an_argument_goes_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text("[model]\nmax_depth = 3\nn_estimators = 10\nseed = 1\n")
    environ = {"HFTCL_MODEL__N_ESTIMATORS": "20", "HFTCL_MODEL__SEED": "2"}
    found = config.load(None, environ=environ, cwd=tmp_path, overrides={"model.seed": 3, "model.max_features": None})
    assert found.settings.model == Model(max_depth=3, n_estimators=20, seed=3)
    origins = {name: found.origins[f"model.{name}"] for name in ("seed", "n_estimators", "max_depth", "max_features")}
    assert origins == {
        "seed": "flag",
        "n_estimators": "HFTCL_MODEL__N_ESTIMATORS",
        "max_depth": str(tmp_path / "hftcl.toml"),
        "max_features": "default",
    }


def test_the_flag_names_the_file_before_the_variable_before_the_working_folder(tmp_path: Path) -> None:
    for number, name in enumerate(("hftcl.toml", "variable.toml", "flag.toml"), start=1):
        (tmp_path / name).write_text(f"[model]\nseed = {number}\n")
    environ = {"HFTCL_CONFIG": "variable.toml"}
    assert config.load(Path("flag.toml"), environ=environ, cwd=tmp_path).settings.model.seed == 3
    assert config.load(None, environ=environ, cwd=tmp_path).settings.model.seed == 2
    assert config.load(None, environ={"HFTCL_CONFIG": ""}, cwd=tmp_path).settings.model.seed == 1


def test_paths_are_relative_to_the_file_not_to_the_working_folder(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "mine.toml"
    file.parent.mkdir()
    file.write_text('[paths]\nhome = "state"\nenv_file = "/run/secrets"\n[files]\nfolder = "~/bars"\n')
    tree = config.load(file, environ={"HOME": "/home/ada"}, cwd=tmp_path).settings
    assert (tree.paths.home, tree.paths.env_file) == (str(tmp_path / "etc" / "state"), "/run/secrets")
    assert tree.files.folder == "/home/ada/bars"


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "~"}], ids=["unset", "empty", "itself"])
def test_a_tilde_without_home_is_refused_and_makes_no_folder_of_that_name(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "hftcl.toml").write_text('[paths]\nhome = "~"\n[files]\nfolder = "~/bars"\n')
    with pytest.raises(ConfigError) as caught:
        config.load(None, environ=environ, cwd=tmp_path)
    assert ["$HOME" in text for text in caught.value.faults] == [True, True]


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("HFTCL_MARKET__SOURCE", "files", "market.source", "files"),
        ("HFTCL_MARKET__SOURCE", '"files"', "market.source", "files"),
        ("HFTCL_MARKET__CALENDAR", "24/7", "market.calendar", "24/7"),
        ("HFTCL_PATHS__HOME", "/2026", "paths.home", "/2026"),
        ("HFTCL_SCHEDULE__CHECK", "03:30", "schedule.check", "03:30"),
        ("HFTCL_MARKET__WATCHLIST", "AAPL, BRK.B", "market.watchlist", ("AAPL", "BRK.B")),
        ("HFTCL_MARKET__WATCHLIST", '["AAPL"]', "market.watchlist", ("AAPL",)),
        ("HFTCL_MARKET__WATCHLIST", "600519", "market.watchlist", ("600519",)),
        ("HFTCL_MARKET__EXTENDED_HOURS", "true", "market.extended_hours", True),
        ("HFTCL_MODEL__MAX_FEATURES", "log2", "model.max_features", "log2"),
        ("HFTCL_MODEL__MAX_FEATURES", "0.5", "model.max_features", 0.5),
        ("HFTCL_TRIGGERS__MAX_AGE_DAYS", "1", "triggers.max_age_days", 1.0),
        ("HFTCL_FILES__COLUMNS", '{ ts = "t", close = "c" }', "files.columns", {"ts": "t", "close": "c"}),
    ],
)
def test_a_variable_is_written_as_toml_but_text_needs_no_quotes(
    variable: str, text: str, key: str, value: object, tmp_path: Path
) -> None:
    found = loaded(tmp_path, **{variable: text})
    section, name = key.split(".")
    assert asdict(found.settings)[section][name] == value
    assert found.origins[key] == variable


def test_a_text_means_the_same_for_a_flag_as_for_a_variable() -> None:
    assert config.from_text("model.max_depth", "9") == 9
    assert config.from_text("market.watchlist", "AAPL,V") == ["AAPL", "V"]
    assert config.from_text("model.max_depth", "nine") == "nine"
    assert config.from_text("model.max_depth", "1\nseed = 2") == "1\nseed = 2"
    with pytest.raises(UsageError, match=r"model\.max_dept; did you mean model\.max_depth\?"):
        config.from_text("model.max_dept", "9")


def test_a_short_exam_asks_for_no_more_sessions_than_it_holds(tmp_path: Path) -> None:
    assert loaded(tmp_path, "[exam]\nsessions = 5").settings.exam == Exam(sessions=5, min_sessions=5)
    assert loaded(tmp_path, "[exam]\nsessions = 40").settings.exam == Exam(sessions=40, min_sessions=10)
    assert faults(tmp_path, "[exam]\nsessions = 5\nmin_sessions = 6") == (
        f"exam.min_sessions = 6 ({tmp_path}/hftcl.toml) and exam.sessions = 5 ({tmp_path}/hftcl.toml): "
        "an exam cannot need more sessions than it holds.",
    )


def test_the_extremes_that_experiments_need_are_allowed(tmp_path: Path) -> None:
    found = loaded(
        tmp_path, "strategy.cost_bps = 0\npromote = { min_sharpe = -100, tolerance = 0.99, min_p_better = 0 }"
    ).settings
    assert (found.strategy.cost_bps, found.promote.min_sharpe, found.promote.tolerance) == (0.0, -100.0, 0.99)


# Faults


def test_a_person_may_keep_options_and_coins_out_of_the_bots_hands_and_trades_none(tmp_path: Path) -> None:
    path = tmp_path / "hftcl.toml"
    path.write_text('[trade]\nhands_off = ["AAPL240119C00100000", "BTC/USD", "BRK.B"]\n')
    kept = config.load(None, environ={}, cwd=tmp_path).settings.trade.hands_off
    assert kept == ("AAPL240119C00100000", "BTC/USD", "BRK.B")
    path.write_text('[market]\nwatchlist = ["AAPL240119C00100000"]\n')
    with pytest.raises(ConfigError, match="at most 16 characters"):
        config.load(None, environ={}, cwd=tmp_path)


def test_all_faults_of_file_environment_and_arguments_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POLYGON_API_KEY=k\nexport HFTCL_MODEL__SEED=3\n")
    (tmp_path / "hftcl.toml").write_text(
        "[modle]\nseed = 1\n[model]\nn_estimators = 7.9\nmax_dept = 3\n[exam]\nembargo_sessions = 0\n"
        '[market]\nwatchlist = ["aapl", "MSFT", 7]\n'
    )
    environ = {"HFTCL_MODEL__SEED": "x", "HFTCL_MODEL__SEEDS": "1", "HFTCL_TEST_DATA": "/data", "PATH": "/bin"}
    with pytest.raises(ConfigError) as caught:
        config.load(None, environ=environ, cwd=tmp_path, overrides={"market.lookback_days": 0})
    ticker = 'it must be a ticker such as "AAPL", "BRK.B", "BACpK" or "X:BTCUSD", in capitals, at most 16 characters.'
    assert caught.value.faults == (
        "hftcl.toml, line 1: there is no section [modle]; did you mean [model]?",
        "hftcl.toml, line 4: model.n_estimators = 7.9, but it must be an integer from 1 to 10000.",
        "hftcl.toml, line 5: there is no setting model.max_dept; did you mean model.max_depth?",
        "hftcl.toml, line 7: exam.embargo_sessions = 0, but it must be an integer from 1 to 60.",
        f'hftcl.toml, line 9: market.watchlist[0] = "aapl", but {ticker}',
        f"hftcl.toml, line 9: market.watchlist[2] = 7, but {ticker}",
        'HFTCL_MODEL__SEED: model.seed = "x", but it must be an integer from 0 to 4294967295.',
        "HFTCL_MODEL__SEEDS: there is no such setting; did you mean HFTCL_MODEL__SEED?",
        "--lookback-days: market.lookback_days = 0, but it must be an integer from 1 to 3650.",
        f"{tmp_path}/.env: HFTCL_MODEL__SEED is a setting, but .env is for secrets only. Move it to hftcl.toml.",
    )
    assert str(caught.value).splitlines() == list(caught.value.faults)


@pytest.mark.parametrize("text", ["7.9", "7.0", '"7"', "true", "nan", "[7]", "{ a = 7 }", "2026-01-09", "02:00:00"])
def test_an_integer_is_nothing_but_an_integer(text: str, tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, f"[model]\nn_estimators = {text}")
    assert fault.endswith("but it must be an integer from 1 to 10000.")


@pytest.mark.parametrize("leaf", NUMBERS, ids=lambda leaf: leaf.key)
@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1" + "0" * 400])
def test_no_number_is_nan_or_infinite_or_beyond_a_float(leaf: Leaf, text: str, tmp_path: Path) -> None:
    assert leaf.key in faults(tmp_path, f"{leaf.key} = {text}")[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("retrain_frequency_days = 7", "did you mean triggers.max_age_days?"),
        ("model.validation_threshold_sharpe = 1", "did you mean promote.min_sharpe?"),
        ("model.cost_bps = 1", "did you mean strategy.cost_bps?"),
        ("N_ESTIMATORS = 1", "did you mean model.n_estimators?"),
        ("polygon.api_key = 'SECRET'", "belong in the environment or in .env, such as POLYGON_API_KEY."),
        ("compute.xyzzy = 1", "[compute] has backend, jobs, scheduler, scheduler_file,"),
        ("model = 3", "must be a section, [model]."),
        ("[[model]]\nseed = 1", "must be a section, [model]."),
        ("'a\\u001b[31m' = 1", "there is no setting"),
        ("market.watchlist = []", "a list of 1 to 10000"),
        ("market.watchlist = ['AAPL', 'V', 'AAPL']", 'named more than once: "AAPL".'),
        ("market.watchlist = ['../../x']", "it must be a ticker"),
        ('market.watchlist = ["AAPL\\n"]', "without control characters"),
        ('paths.home = "a\\u0000b"', "without control characters"),
        ("paths.home = ''", "it must be a folder"),
        ("files.columns = { clsoe = 'c' }", "a table with some of the keys ticker, ts, date, time, open"),
        ("files.columns = { close = 'c', open = 'c' }", 'named more than once: "c".'),
        ("files.columns = { 'Close' = 'c' }", "volume, or those of [market] columns"),
        ("market.columns = ['vwap', 'Spread']", 'it must be a name such as "vwap"'),
        ("market.columns = ['vwap', 'vwap']", 'named more than once: "vwap".'),
        ("market.context = ['AAPL']", '"AAPL" is in [market] watchlist, and a context ticker is not traded'),
        ("files.timezone = 'Europe/Berln'", "there is no such time zone; did you mean Europe/Berlin?"),
        ("files.timezone = 'America'", "there is no such time zone"),
        ("files.timezone = '../../etc/passwd'", "there is no such time zone"),
        ("files.timezone = '/etc/passwd'", "there is no such time zone"),
        ("schedule.timezone = ''", "there is no such time zone"),
        ("schedule.retrain = 'Sunday 01:00'", 'it must be a day and a time such as "Sun 01:00"'),
        ("schedule.check = 02:00:00", 'it must be a time such as "02:00"'),
        ("files.label = 'middle'", 'it must be "auto", "start" or "end".'),
        ("model.max_features = 2.0", 'it must be "sqrt" or "log2", or a number above 0, at most 1.'),
        (f"files.label = '{'x' * 1000}'", 'it must be "auto", "start" or "end".'),
        (f"market.watchlist = [{'[' * 300}{']' * 300}]", "market.watchlist[0] = [[...]], but it must be a ticker"),
        ("strategy.entry_quantile = 1", "it must be a number from 0 to below 1."),
        ("polygon.base_url = 'ftp://x'", 'it must be an address such as "https://api.polygon.io"'),
        ("model.seed = 1\nmodel.seed = 2", "is not valid TOML: Cannot overwrite a value (at line 2, the last)."),
        ("[paper]\n[paper]", "is not valid TOML: Cannot declare paper twice (at line 2, column 7)."),
        ("a = {b = 1}\n[a.c]", "is not valid TOML: Cannot declare a.c twice"),
        ("a = 1\nb = \nc = 2", "is not valid TOML: Invalid value (at line 2, column 5)."),
        ("[model]\nseed = ", "is not valid TOML: Invalid value (at line 2, the last)."),
        ("a = " + "[" * 100_000, "cannot be read as TOML"),
        ("a = " + "1" * 5_000, "cannot be read as TOML"),
        ("#" * (1 << 20) + "#", "is larger than 1 MiB"),
    ],
)
def test_a_fault_says_in_one_line_what_is_allowed_or_what_was_meant(text: str, told: str, tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, text)
    assert told in fault
    assert fault.isprintable()
    assert len(fault) < 400


def test_a_fault_never_shows_what_may_be_a_secret(tmp_path: Path) -> None:
    text = "polygon.api_key = 'CANARY'\n[market]\nPOLYGON_API_KEY = 'CANARY'\n[SMTP_PASSWORD]\nx = 'CANARY'\n"
    environ = {
        "HFTCL_POLYGON_API_KEY": "CANARY",
        "HFTCL_POLYGON__BASE_URL": "https://me:CANARY@example.com/?apiKey=CANARY",
    }
    told = faults(tmp_path, text, **environ)
    assert len(told) == 5
    assert "CANARY" not in "".join(told)
    assert "HFTCL_POLYGON_API_KEY: there is no such setting; did you mean POLYGON_API_KEY?" in told


def test_a_hostile_variable_is_no_more_than_a_fault(tmp_path: Path) -> None:
    for text in ("[" * 100_000, "1" * 5_000, "1\nseed = 2", "\udcff", '"""'):
        (fault,) = faults(tmp_path, None, HFTCL_MODEL__SEED=text, HFTCL_TEST_DATA="x")
        assert fault.startswith("HFTCL_MODEL__SEED: model.seed = ")
        assert fault.isprintable()
        assert len(fault) < 400


def test_a_wrong_argument_alone_is_wrong_usage(tmp_path: Path) -> None:
    for overrides in ({"market.lookback_days": 0}, {"exam.min_sessions": 21}, {"model.max_dept": 3}):
        with pytest.raises(UsageError) as caught:
            config.load(None, environ={}, cwd=tmp_path, overrides=overrides)
        assert caught.value.exit_code == 2
        assert next(iter(overrides)) in str(caught.value)


def test_a_valid_value_of_higher_rank_does_not_hide_a_fault_below_it(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "[model]\nseed = -1", HFTCL_MODEL__SEED="3")
    assert fault.startswith("hftcl.toml, line 2: model.seed = -1")


@pytest.mark.parametrize("environ", [{}, {"HFTCL_CONFIG": "gone.toml"}], ids=["flag", "variable"])
def test_a_file_that_was_named_must_exist(environ: Mapping[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: there is no such file"):
        config.load(None if environ else Path("gone.toml"), environ=environ, cwd=tmp_path)


def test_a_file_that_is_no_text_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "latin").write_bytes(b"# one\n# K\xf6ln\n")
    for name, told in {
        "folder": "is not a regular file",
        "fifo": "is not a regular file",
        "/dev/zero": "is not a regular file",
        "latin": "is not UTF-8 text: line 2",
    }.items():
        with pytest.raises(ConfigError, match=told):
            config.load(Path(name), environ={}, cwd=tmp_path)


def test_a_dangling_link_in_the_working_folder_is_not_taken_for_no_file(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").symlink_to("gone.toml")
    with pytest.raises(ConfigError, match="there is no such file"):
        loaded(tmp_path)


def test_a_file_that_cannot_be_opened_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").symlink_to("hftcl.toml")  # fails for root too, unlike a missing permission
    assert faults(tmp_path, None) == ("hftcl.toml: cannot be read: Too many levels of symbolic links.",)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_bytes(b"\xef\xbb\xbf[model]\r\nseed = 5\r\n")
    assert loaded(tmp_path).settings.model.seed == 5


def test_reading_the_configuration_loads_nothing_heavy() -> None:
    script = (
        "import sys, os, pathlib; from hftcl import config;"
        "config.load(None, environ={}, cwd=pathlib.Path('/'));"
        "heavy = {'polars', 'pandas', 'numpy', 'sklearn', 'typer', 'rich', 'onnx', 'exchange_calendars', 'tomli_w'};"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_exam_of_fewer_than_five_sessions_is_refused_where_p_better_is_asked_for(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, "[exam]\nsessions = 4")
    assert "exam.sessions = 4" in told
    assert "promote.policy" in told
    assert "fewer than 5 sessions" in told
    assert loaded(tmp_path, "[exam]\nsessions = 4\n[promote]\npolicy = 'seed'").settings.exam.sessions == 4
