"""The judge is not worn down by asking again: see ten_tries.py, which does the same in parts."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.benchmarks import ten_tries


@pytest.mark.bench
@pytest.mark.slow
@pytest.mark.parametrize("kind", ten_tries.KINDS)
def test_ten_forced_retrains_of_one_day_deploy_and_trade_no_more_noise_than_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Some twenty minutes of processor time a kind."""
    markets = ten_tries.run(kind, tmp_path / "tries.jsonl", range(ten_tries.MARKETS), "this one")
    shares = ten_tries.count(markets)
    with capsys.disabled():
        sys.stdout.write(f"\n{kind}: {shares}\n")
    assert shares.is_as_asked


def test_a_run_in_parts_goes_on_where_it_ended_and_refuses_the_figures_of_another_code(tmp_path: Path) -> None:
    file, rows = tmp_path / "tries.jsonl", ((0.1, 0.2, 0.4), (0.2, -0.1, 0.3)) * 5
    market = ten_tries.Market(
        kind="forests", number=3, commit="a", deployed=(False, True), live=(False, False), pnl=rows
    )
    file.write_text(json.dumps(asdict(market)) + "\n")
    assert ten_tries.run("forests", file, [3], "a") == [market]
    assert ten_tries.count([market]).is_as_asked is False
    with pytest.raises(ValueError, match="begin another file"):
        ten_tries.run("forests", file, [3], "b")
