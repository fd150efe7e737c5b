"""How figures, counts, hours and times are written: once, for tables, pages and messages."""

import ast
import re
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from hftcl import formats

HFTCL = Path(formats.__file__).parent


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, ".2f", "-"),
        (-0.004, "+.2f", "+0.00"),
        (-0.0, ".1f", "0.0"),
        (-0.00001, "+.2%", "+0.00%"),
        (-1.5, ".1f", "-1.5"),
        (3, "+,.0f", "+3"),
        (-0.0, "g", "0"),
    ],
)
def test_an_undefined_figure_is_a_dash_and_zero_has_no_minus(value: float | None, form: str, text: str) -> None:
    assert formats.number(value, form) == text


def test_money_is_rounded_to_the_cent_and_shares_to_what_a_broker_keeps() -> None:
    assert formats.format_money(110000.00000000001) == "110,000.00"
    assert formats.format_money(1234.5, signed=True) == "+1,234.50"
    assert formats.format_money(None) == "-"
    assert formats.format_quantity(100.0) == "100"
    assert formats.format_quantity(0.30000000000000004) == "0.3"


@pytest.mark.parametrize(
    ("n", "words", "text"),
    [
        (1, ("session",), "1 session"),
        (0, ("session",), "0 sessions"),
        (1200, ("trade",), "1,200 trades"),
        (2, ("day", "days"), "2 days"),
    ],
)
def test_a_noun_has_the_form_of_its_number(n: int, words: tuple[str, ...], text: str) -> None:
    assert formats.count(n, *words) == text


def test_rates_and_bounds_have_one_form() -> None:
    assert formats.format_basis_points(1.0) == "1 bp"
    assert formats.format_basis_points(1.2345) == "1.23 bp"
    assert formats.format_basis_points(None) == "-"
    assert formats.format_interval((-0.001, 2.0)) == "+0.00 to +2.00"
    assert formats.format_interval(None) == "-"


@pytest.mark.parametrize(
    ("hour", "opens", "minutes", "text"),
    [
        (0, time(9, 30), 390, "09:30-10:30"),
        (6, time(9, 30), 390, "15:30-16:00"),
        (0, time(4), 960, "04:00-05:00"),
        (23, time(0), 1440, "23:00-00:00"),
        (7, time(9, 30), 390, "16:30-16:31"),  # a bar after the regular close, as a halt can bring
    ],
)
def test_an_hour_of_a_session_is_named_by_the_clock(hour: int, opens: time, minutes: int, text: str) -> None:
    assert formats.name_hour(hour, opens, minutes) == text


def test_times_and_spans() -> None:
    assert formats.format_moment(datetime(2026, 1, 7, 2, 0, 59, tzinfo=UTC)) == "2026-01-07 02:00"
    assert formats.format_moment(None) == "-"
    assert formats.span(timedelta(seconds=61)) == "2 min"
    assert formats.span(timedelta(hours=2, minutes=5)) == "2 h 5 min"
    assert formats.span(timedelta(days=3, hours=4, minutes=1)) == "3 d 4 h"
    assert formats.span(timedelta(seconds=-5)) == "0 min"


EXCEPT = {
    "broker.name",  # "the broker paper fills orders"
    "self._row.total()",  # told from three refusals in a row on
}
COUNTED = ("sessions", "tickers", "models", "orders", "fills", "rows", "trainings", "trials")


def list_uncounted(source: str) -> list[str]:
    """Return each part of an f-string that writes a number before a plural without `formats.count`."""
    texts = [node.values for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr)]
    pairs = [pair for values in texts for pair in pairwise(values)]
    return [
        ast.unparse(figure.value)
        for figure, noun in pairs
        if isinstance(figure, ast.FormattedValue)
        and isinstance(noun, ast.Constant)
        and re.match(rf" ({'|'.join(COUNTED)})\b", str(noun.value))
        and not figure.format_spec  # a mean, or a length computed, of sessions
        and not (isinstance(figure.value, ast.Name) and figure.value.id.isupper())  # a constant, and above 1
    ]


def test_a_text_that_would_say_1_sessions_is_found() -> None:
    assert list_uncounted("f\"{n} sessions of {count(2, 'row')}\"") == ["n"]


@pytest.mark.parametrize("room", sorted(path.name for path in HFTCL.iterdir() if path.suffix in {"", ".py"}))
def test_no_text_of_ours_says_1_sessions(room: str) -> None:
    files = [HFTCL / room] if room.endswith(".py") else sorted((HFTCL / room).rglob("*.py"))
    texts = {file.name: list_uncounted(file.read_text()) for file in files}
    assert {name: found for name, found in texts.items() if set(found) - EXCEPT} == {}
