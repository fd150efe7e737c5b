"""What a person meant by a name or a time that does not exist, and settings that must agree: the texts, one by one."""

from datetime import date, time
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from hftcl.config import times
from hftcl.config.documents import format_toml, list_settings
from hftcl.config.suggest import describe_key_fault, describe_section_fault, describe_variable_fault, find_closest_zone
from hftcl.config.tree import describe_allowed, find_refusals, format_key, format_value
from hftcl.settings import Model
from tests.config.configured import faults, loaded


def refusals(annotation: object, value: object) -> list[str]:
    return [str(refusal) for refusal in find_refusals("a.b", annotation, value)]


@pytest.mark.parametrize(
    ("text", "cron", "at"),
    [
        ("02:00", "00 02 * * *", time(2)),
        ("Sun 01:05", "05 01 * * Sun", time(1, 5)),
        ("30 22 * * MON-FRI", "30 22 * * MON-FRI", time(22, 30)),
        ("0 0 29 2 *", "0 0 29 2 *", time(0)),
    ],
)
def test_a_time_of_the_schedule_is_one_minute_of_certain_days(text: str, cron: str, at: time) -> None:
    assert times.parse(text) == times.Times(cron=cron, at=at)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("25:00", "cron knows no such time: "),
        ("Son 01:00", "cron knows no such time: "),
        ("*/5 * * * *", "name one minute of the day"),
        ("0 2,3 * * *", "name one minute of the day"),
        ("0 0 2 * * *", "cron syntax has five fields here"),
        ("0 2 30 2 *", "cron knows no such time: "),
    ],
)
def test_a_time_that_is_none_says_why(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"\.$") as caught:
        times.parse(text)
    assert str(caught.value).startswith(told)


def test_the_days_of_a_time_begin_with_the_first_and_go_on_over_months_and_years() -> None:
    sundays = times.parse("Sun 01:00")
    assert list(islice(sundays.iterate_dates(date(2026, 12, 20)), 3)) == [
        date(2026, 12, 20),
        date(2026, 12, 27),
        date(2027, 1, 3),
    ]
    assert next(sundays.iterate_dates(date(2026, 12, 21))) == date(2026, 12, 27)
    leap = times.parse("0 0 29 2 *")
    assert list(islice(leap.iterate_dates(date(2026, 1, 1)), 2)) == [date(2028, 2, 29), date(2032, 2, 29)]
    monthly = times.parse("59 23 31 * *")
    assert list(islice(monthly.iterate_dates(date(2026, 11, 30)), 2)) == [date(2026, 12, 31), date(2027, 1, 31)]
    midnight = times.parse("0 0 1 * *")
    assert next(midnight.iterate_dates(date(2026, 3, 1))) == date(2026, 3, 1), "the first minute of a month is in it"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[edge]\nmin_p_edge = 0.6\nstand_down_below = 0.7", "would never go on trading."),
        ("[compute]\nscheduler = 'tls://a:1'\nscheduler_file = 'x'", "leave one of them empty."),
        ("[compute]\nscheduler = 'tcp://a:1'\ntls_cert = 'x'", "begins with tls://."),
        ("[market]\ncontext = ['SPY', 'SPY']", 'named more than once: "SPY".'),
        ("[schedule]\ncheck = '0 2 30 2 *'", "cron knows no such time: "),
        ("[schedule]\nretrain = '0 2,3 * * *'", "name one minute of the day"),
        ("[schedule]\ndigest = '* 2 * * *'", "name one minute of the day"),
    ],
)
def test_settings_that_do_not_agree_are_told_with_each_of_them_and_where_it_was_set(
    text: str, told: str, tmp_path: Path
) -> None:
    (fault,) = faults(tmp_path, text)
    assert told in fault
    section, *names = (line.split(" = ")[0].strip("[]") for line in text.splitlines())
    for name in names:
        assert f"{section}.{name} = " in fault
        assert f"({tmp_path}/hftcl.toml)" in fault


def test_settings_that_agree_at_the_bound_are_allowed(tmp_path: Path) -> None:
    tree = loaded(tmp_path, "[edge]\nmin_p_edge = 0.6\nstand_down_below = 0.6\n[exam]\nsessions = 5").settings
    assert (tree.edge.stand_down_below, tree.exam.sessions) == (0.6, 5)
    secure = loaded(tmp_path, "[compute]\nscheduler = 'tls://a:1'\ntls_cert = 'x'").settings
    assert secure.compute.tls_cert == str(tmp_path / "x")


def test_more_than_ten_repeats_are_told_by_the_first_ten(tmp_path: Path) -> None:
    twice = [f"T{n}" for n in range(12)] * 2
    (fault,) = faults(tmp_path, f"market.watchlist = {twice}")
    assert '"T9".' in fault
    assert "T10" not in fault.partition("named more than once")[2]


def test_a_fault_of_one_setting_keeps_what_needs_it_from_being_judged(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "[exam]\nsessions = 0\nmin_sessions = 30")
    assert "exam.sessions = 0" in fault


def test_what_was_meant_is_looked_for_in_the_guide_then_in_the_section_then_anywhere() -> None:
    assert describe_key_fault("trade", "model_reload_interval_hours").endswith(
        "did you mean trade.reload_interval_hours?"
    )
    assert describe_key_fault("model", "Seed").endswith("did you mean model.seed?"), "its own section goes first"
    assert describe_key_fault("market", "n_estimators").endswith("did you mean model.n_estimators?")
    assert describe_key_fault("", "embargo_sessions").endswith("did you mean exam.embargo_sessions?")
    assert describe_key_fault("", "qqqqqq").endswith("a setting stands below its [section].")
    assert "[costs]" not in describe_key_fault("nowhere", "qqqqqq")


@pytest.mark.parametrize("name", ["polygon_apikey", "api_key", "my_passwd", "bearer_token", "client_secret"])
def test_a_key_or_password_among_the_settings_is_told_where_it_belongs(name: str) -> None:
    assert "keys and passwords belong in the environment or in .env" in describe_key_fault("market", name)


def test_a_name_that_is_near_nothing_is_answered_with_what_there_is() -> None:
    assert "the sections are paths, market, " in describe_section_fault("zzzzzz")
    assert describe_section_fault("MODEL") == "there is no section [MODEL]; did you mean [model]?"
    assert describe_section_fault('a"b').startswith("there is no section ['a\"b'];")
    assert describe_variable_fault("HFTCL_QQQQQQQQ").startswith(
        "there is no such setting; a setting's variable looks like HFTCL_"
    )
    assert describe_variable_fault("HFTCL_SMTP_PASWORD") == "there is no such setting; did you mean SMTP_PASSWORD?"
    assert find_closest_zone("europe/berlin") == "Europe/Berlin"
    assert find_closest_zone("qqqqqq") is None
    assert find_closest_zone("UTC" * 10_000) is None, "a name of any length is answered at once"


@pytest.mark.parametrize(
    ("annotation", "allowed"),
    [
        (bool, "true or false"),
        (Annotated[int, Meta(ge=1, le=64)], "an integer from 1 to 64"),
        (Annotated[float, Meta(gt=0, le=1)], "a number above 0, at most 1"),
        (Annotated[float, Meta(gt=0, lt=1)], "a number above 0 to below 1"),
        (Annotated[float, Meta(ge=0, lt=1)], "a number from 0 to below 1"),
        (Annotated[str, Meta(min_length=1)], "a text, not empty"),
        (str, "a text"),
        (Literal["a"], '"a"'),
        (Literal["a", "b", "c"], '"a", "b" or "c"'),
        (Annotated[tuple[bool, ...], Meta(max_length=3)], "a list of 0 to 3, each true or false"),
        (Annotated[str, Meta(extra={"allowed": "a day"})], "a day"),
        (dict[Literal["a"], bool], 'a table with some of the keys "a", each true or false'),
        (bool | str, "true or false, or a text"),
    ],
)
def test_what_a_setting_allows_is_said_in_words(annotation: object, allowed: str) -> None:
    assert describe_allowed(annotation) == allowed


def test_each_element_of_a_list_and_each_key_of_a_table_is_refused_by_itself() -> None:
    numbers = Annotated[tuple[Annotated[int, Meta(ge=1, le=9)], ...], Meta(min_length=2, max_length=3)]
    assert refusals(numbers, [1, 9]) == []
    assert refusals(numbers, [0, 1, 10]) == [
        "a.b[0] = 0, but it must be an integer from 1 to 9",
        "a.b[2] = 10, but it must be an integer from 1 to 9",
    ]
    for wrong in ([1], [1, 2, 3, 4]):
        assert refusals(numbers, wrong) == [
            f"a.b = {format_value(wrong)}, but it must be a list of 2 to 3, each an integer from 1 to 9"
        ]
    table = dict[Literal["x", "y"], bool]
    assert refusals(table, {"x": True, "y": 1, "z": True}) == [
        "a.b.y = 1, but it must be true or false",
        'a.b = { z = true }, but it must be a table with some of the keys "x" or "y", each true or false',
    ]
    assert refusals(str, "a\x1b[31m") == [
        "a.b = 'a\\x1b[31m', but it must be one line of text, without control characters and undecodable bytes"
    ]
    assert len(refusals(float, 1 << 64)) == 1
    assert refusals(float, 1 << 63) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (-7, "-7"),
        (10**40, "an integer of more than 40 digits"),
        (0.1, "0.1"),
        ('say "x"', "'say \"x\"'"),
        ("https://me:pw@host/path?key=1", '"https://...@host/path?..."'),
        ([1, [2], {"a": 3}], "[1, [...], { ... }]"),
        ({"a": "x", "b c": False}, '{ a = "x", "b c" = false }'),
        (list(range(21)), f"[{', '.join(map(str, range(20)))}, ...]"),
        ("x" * 100, '"' + "x" * 75 + " ..."),
        (date(2026, 1, 5), "2026-01-05"),
    ],
)
def test_a_value_is_shown_in_one_line_as_toml_writes_it_without_what_may_be_a_password(
    value: object, shown: str
) -> None:
    assert format_value(value) == shown
    assert len(format_value(value)) <= 80


def test_a_key_is_shown_bare_where_toml_takes_it_so() -> None:
    assert [format_key(key) for key in ("a.b-c_1", "a b", "", "x" * 80)] == ["a.b-c_1", '"a b"', '""', "x" * 80]
    assert format_key("x" * 81).endswith(" ...")


def test_a_setting_is_shown_as_a_default_where_the_file_says_what_holds_without_it(tmp_path: Path) -> None:
    depth = Model().max_depth
    found = loaded(tmp_path, f"[model]\nseed = 5\nmax_depth = {depth}\n[paths]\nhome = '{tmp_path}'")
    shown = {setting.key: setting for setting in list_settings(found)}
    assert (shown["model.seed"].is_default, shown["model.seed"].value) == (False, 5)
    assert shown["model.max_depth"].is_default
    assert shown["model.max_depth"].origin == str(tmp_path / "hftcl.toml")
    assert shown["paths.home"].is_default, "the folder of the file is where the home is anyway"
    assert shown["model.n_estimators"].is_default
    assert shown["market.watchlist"].text.startswith('["')
    elsewhere = {setting.key: setting for setting in list_settings(loaded(tmp_path, "[paths]\nhome = '/srv'"))}
    assert not elsewhere["paths.home"].is_default


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (("AAPL", "V"), '["AAPL", "V"]'),
        ((), "[]"),
        ({}, "{}"),
        ({"ts": "t", "close": "c"}, '{ ts = "t", close = "c" }'),
        (True, "true"),
        (0.5, "0.5"),
        ('a"b', '"a\\"b"'),
    ],
)
def test_a_value_is_written_on_one_line_that_toml_reads_back(value: object, written: str) -> None:
    assert format_toml(value) == written
