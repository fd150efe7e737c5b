"""What the installed packages register is read once, and again where another package is there."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from hftcl.entry_points import find_loaded_version, find_version, list_entry_points


def install(folder: Path, package: str, group: str, name: str) -> None:
    information = folder / f"{package}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{name} = {package}:thing\n")


def test_ours_are_listed_each_in_its_group() -> None:
    assert {"forest", "ridge"} <= set(list_entry_points("hftcl.families"))
    assert "forest" not in list_entry_points("hftcl.sources")
    assert list_entry_points("hftcl.families")["forest"].load()().name == "forest"


def test_a_group_that_no_package_has_is_empty() -> None:
    assert list_entry_points("hftcl.no_such_group") == {}


def test_a_package_that_comes_and_goes_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "acme_source", "hftcl.sources", "acme")
    assert "acme" not in list_entry_points("hftcl.sources")
    monkeypatch.syspath_prepend(tmp_path)
    assert list_entry_points("hftcl.sources")["acme"].value == "acme_source:thing"
    install(tmp_path, "acme_broker", "hftcl.brokers", "acme")
    assert list_entry_points("hftcl.brokers")["acme"].value == "acme_broker:thing"
    monkeypatch.undo()
    assert "acme" not in list_entry_points("hftcl.sources")


def test_what_is_listed_is_kept_and_a_folder_that_is_not_there_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend("/no/such/folder")
    assert list_entry_points("hftcl.families") is list_entry_points("hftcl.families")


def test_a_version_is_the_one_that_is_loaded_first_whatever_the_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_version("polars") == version("polars")
    assert find_version("exchange-calendars") == find_version("exchange_calendars") == version("exchange_calendars")
    install(tmp_path, "polars_more", "hftcl.brokers", "other")
    install(tmp_path, "Polars", "hftcl.brokers", "acme")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_version("polars") == version("polars") == "1.0"


def test_a_package_that_is_not_installed_has_no_version() -> None:
    with pytest.raises(PackageNotFoundError):
        find_version("no-such-package")


def test_a_library_that_is_loaded_keeps_its_version_whatever_is_installed_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    assert find_loaded_version("not-loaded") == "absent"
    for package in ("polars", "not_loaded"):
        install(tmp_path, package, "hftcl.brokers", package)
    assert (find_version("polars"), find_loaded_version("polars")) == ("1.0", pl.__version__)
    assert find_loaded_version("not-loaded") == "1.0"
    (tmp_path / "not_loaded-1.0.dist-info").rename(tmp_path / "not_loaded-1.1.dist-info")
    assert find_loaded_version("not-loaded") == "1.1", "what may be loaded next"
    monkeypatch.setitem(sys.modules, "not_loaded", None)  # hidden: see `families.hidden`
    assert find_loaded_version("not-loaded") == "1.1"


def test_scikit_learn_has_a_module_of_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: Any = ModuleType("sklearn")
    loaded.__version__ = "99.0"
    monkeypatch.setitem(sys.modules, "sklearn", loaded)
    assert find_loaded_version("scikit-learn") == "99.0"
