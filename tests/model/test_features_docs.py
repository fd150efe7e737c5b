"""docs/features.md shows the table that the code computes from."""

from pathlib import Path

from hftcl.model.features import FEATURES, WARMUP_SESSIONS, build_documentation

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"


def test_the_page_holds_the_table_of_the_code_word_for_word() -> None:
    assert build_documentation() in PAGE.read_text(encoding="utf-8"), (
        "docs/features.md says how to regenerate its table"
    )


def test_the_table_names_each_feature_with_formula_lookback_and_reason() -> None:
    rows = build_documentation().splitlines()[2:]
    assert len(rows) == len(FEATURES) == 31
    for row, feature in zip(rows, FEATURES, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert cells[1:3] == [f"`{feature.name}`", feature.formula]
        assert cells[3].startswith(f"{feature.lookback} min")
        assert cells[4] == feature.reason


def test_the_page_tells_the_warm_up() -> None:
    assert f"{WARMUP_SESSIONS} earlier sessions" in PAGE.read_text(encoding="utf-8")
