"""Each extra, alone and beside the others, at the least and the newest versions that pyproject.toml allows.

What an extra brings is used once in each: that it can be installed says little.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.browser import CHROMIUM
from tests.packages import (
    EXTRAS,
    PROJECT,
    ROOT,
    build_wheel,
    call,
    install,
    list_floors,
    make_environment,
    open_dashboard,
    without_path,
)
from tests.trading.alpaca_server import AlpacaServer

pytestmark = pytest.mark.slow
ENDS: Final = ("least", "newest")
SMALL: Final = """\
[market]
watchlist = ["AAPL", "AMD"]
lookback_days = 46

[exam]
sessions = 12
min_sessions = 5
"""
_BROKER: Final = """
import sys
from dataclasses import replace
from pathlib import Path
from hftcl.settings import Settings
from hftcl.trading.brokers import find_broker
settings = Settings()
settings = replace(settings, alpaca=replace(settings.alpaca, base_url=sys.argv[1]))
broker = find_broker("alpaca")(settings, folder=Path())
print(broker.account().equity)
broker.close()
"""
_BROWSER: Final = """
import sys
from axe_playwright_python.sync_playwright import Axe
from playwright import sync_api
if sys.argv[1]:
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=sys.argv[1], args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_content("<html lang=en><title>a</title><main><h1>a</h1><img src=x></main></html>")
        assert [fault["id"] for fault in Axe().run(page).response["violations"]] == ["image-alt"]
        browser.close()
"""


def write_home(home: Path, more: str = "") -> None:
    home.mkdir()
    (home / "hftcl.toml").write_text(SMALL + more)


def use_boosting(python: Path, home: Path) -> None:
    for family in ("lightgbm", "xgboost"):
        write_home(home / family, f'[model]\nfamily = "{family}"\n')
        call([python, "-m", "hftcl", "retrain", "--force"], home / family)


def use_search(python: Path, home: Path) -> None:
    write_home(home / "search", '[model]\nfamily = "ridge"\n')
    call([python, "-m", "hftcl", "search", "--trials", "2"], home / "search")


def use_dask(python: Path, home: Path) -> None:
    write_home(home / "dask", '[model]\nfamily = "ridge"\n[compute]\nbackend = "dask"\njobs = 1\n')
    backtest = ("backtest", "--from", "2025-08-04", "--to", "2025-08-15")
    assert "sessions" in call([python, "-m", "hftcl", *backtest], home / "dask")


def use_dashboard(python: Path, home: Path) -> None:
    write_home(home / "dashboard")
    open_dashboard([python, "-m", "hftcl"], home / "dashboard")


def use_alpaca(python: Path, home: Path) -> None:
    keys = {"APCA_API_KEY_ID": "key-123456", "APCA_API_SECRET_KEY": "secret-123456"}
    with AlpacaServer() as server:
        assert float(call([python, "-c", _BROKER, server.url], home, {**without_path(), **keys})) > 0


def use_site(python: Path, home: Path) -> None:
    call([python, "-m", "tests.site.build", home / "site"], ROOT)
    assert "furo" in (home / "site" / "index.html").read_text()


def use_browser(python: Path, home: Path) -> None:
    call([python, "-c", _BROWSER, CHROMIUM], home)


USES: Final[dict[str, Callable[[Path, Path], None]]] = {
    "alpaca": use_alpaca,
    "boosting": use_boosting,
    "browser": use_browser,
    "dashboard": use_dashboard,
    "dask": use_dask,
    "search": use_search,
    "site": use_site,
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module", params=ENDS)
def core(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return which end of the versions it is, and the Python of an environment with hftcl and without any extra."""
    python = make_environment(tmp_path_factory.mktemp(str(request.param)) / "core")
    # scipy comes with scikit-learn in any case: in two layers, a process of Dask would find the newer one below
    floors = list_floors([*PROJECT["dependencies"], *(text for text in EXTRAS["boosting"] if text.startswith("scipy"))])
    install(python, wheel, *(floors if request.param == "least" else ()))
    return str(request.param), python


def install_extras(core: tuple[str, Path], names: list[str], wheel: Path, folder: Path) -> Path:
    """Return the Python of an environment with these extras over the core, which stays as it is."""
    end, below = core
    python = make_environment(folder / "venv", below)
    wanted = [text for name in names for text in EXTRAS[name]]
    if end == "least":  # the core's floors too: an extra that needs newer ones does not go with them
        install(python, *list_floors([*PROJECT["dependencies"], *wanted]))
    else:
        install(python, f"{wheel}[{','.join(names)}]", *wanted)
    return python


@pytest.mark.parametrize("extra", USES)
def test_an_extra_alone_does_what_it_is_for(core: tuple[str, Path], wheel: Path, extra: str, tmp_path: Path) -> None:
    USES[extra](install_extras(core, [extra], wheel, tmp_path), tmp_path)


def test_all_extras_together_do_what_each_is_for(core: tuple[str, Path], wheel: Path, tmp_path: Path) -> None:
    assert USES.keys() == EXTRAS.keys() - {"test", "all"}
    python = install_extras(core, list(USES), wheel, tmp_path)
    for use in USES.values():
        use(python, tmp_path)
