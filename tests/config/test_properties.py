"""What holds for every configuration, whatever is in it."""

import string
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import tomli_w
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from hftcl import config
from hftcl.config.tree import list_all_leaves
from hftcl.errors import ConfigError
from hftcl.market.layouts import ROLES
from hftcl.settings import Settings
from tests.config.configured import faults

LEAVES = tuple(list_all_leaves().values())


def misspelt(name: str) -> st.SearchStrategy[str]:
    """Return one slip of the keyboard: a letter left out, added, replaced, or swapped with the next."""
    place, letter = st.integers(0, len(name) - 1), st.sampled_from(string.ascii_lowercase)
    return st.one_of(
        st.builds(lambda i: name[:i] + name[i + 1 :], place),
        st.builds(lambda i, c: name[:i] + c + name[i:], place, letter),
        st.builds(lambda i, c: name[:i] + c + name[i + 1 :], place, letter),
        st.builds(lambda i: name[:i] + name[i : i + 2][::-1] + name[i + 2 :], place),
    ).filter(lambda wrong: bool(wrong) and wrong != name)


@settings(max_examples=100)
@given(data=st.data())
def test_a_misspelt_setting_is_named_with_what_was_meant(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    leaf = data.draw(st.sampled_from(LEAVES))
    wrong = data.draw(misspelt(leaf.name))
    assume(f"{leaf.section}.{wrong}" not in list_all_leaves())
    variable = f"HFTCL_{leaf.section.upper()}__{wrong.upper()}"
    in_file, in_environment = faults(
        tmp_path_factory.getbasetemp(), f"[{leaf.section}]\n{wrong} = 1", **{variable: "1"}
    )
    assert in_file == f"hftcl.toml, line 2: there is no setting {leaf.section}.{wrong}; did you mean {leaf.key}?"
    assert in_environment == f"{variable}: there is no such setting; did you mean {leaf.variable}?"


@settings(max_examples=50)
@given(data=st.data())
def test_a_misspelt_section_is_named_with_what_was_meant(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    section = data.draw(st.sampled_from(sorted({leaf.section for leaf in LEAVES})))
    wrong = data.draw(misspelt(section))
    (fault,) = faults(tmp_path_factory.getbasetemp(), f"[{wrong}]\nx = 1")
    assert fault == f"hftcl.toml, line 1: there is no section [{wrong}]; did you mean [{section}]?"


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Return what `annotation` allows, read from the annotation itself and not by the code under test."""
    core, meta = get_args(annotation) if get_origin(annotation) is Annotated else (annotation, Meta())
    if core is bool:
        return st.booleans()
    if core is int:
        return st.integers(meta.ge, meta.le)
    if core is float:
        low, high = (meta.ge if meta.gt is None else meta.gt), (meta.le if meta.lt is None else meta.lt)
        assert low is not None
        assert high is not None
        return st.floats(low, high, exclude_min=meta.gt is not None, exclude_max=meta.lt is not None)
    if core is str and meta.pattern:
        return st.from_regex(meta.pattern, fullmatch=True, alphabet=st.characters(exclude_categories=["C"]))
    if core is str:
        return st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=meta.min_length or 0, max_size=20)
    if get_origin(core) is Literal:
        return st.sampled_from(get_args(core))
    if get_origin(core) is tuple:
        return st.lists(values_of(get_args(core)[0]), min_size=1, max_size=5, unique=True).map(tuple)
    if get_origin(core) is dict:
        names, of_value = get_args(core)
        if r"\." in get_args(names)[1].pattern:  # settings
            return st.dictionaries(values_of(names), values_of(of_value), max_size=3)
        texts = st.lists(values_of(of_value), max_size=len(ROLES), unique=True)  # columns of a file
        return texts.map(lambda found: dict(zip(ROLES, found, strict=False)))
    return st.one_of(*map(values_of, get_args(core)))


@st.composite
def trees(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    tree: dict[str, dict[str, Any]] = {}
    for leaf in LEAVES:
        zone = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo"])
        tree.setdefault(leaf.section, {})[leaf.name] = draw(
            zone if leaf.name == "timezone" else values_of(leaf.annotation)
        )
    tree["exam"]["min_sessions"] = min(tree["exam"]["min_sessions"], tree["exam"]["sessions"])
    if tree["promote"]["policy"] != "seed":
        tree["exam"]["sessions"] = max(tree["exam"]["sessions"], 5)
    tree["edge"]["stand_down_below"] = min(tree["edge"]["stand_down_below"], tree["edge"]["min_p_edge"])
    traded = tree["market"]["watchlist"]
    tree["market"]["context"] = tuple(ticker for ticker in tree["market"]["context"] if ticker not in traded)
    tree["paths"] = {"home": "/var/lib/hftcl", "env_file": "/etc/hftcl.env"}
    tree["features"]["modules"] = ("/etc/hftcl/my_features.py",)
    tree["files"]["folder"] = "/srv/bars"
    tree["polygon"]["flat_files"] = "/srv/flat"
    tree["log"]["prometheus"] = "/var/lib/hftcl/hftcl.prom"
    for name in ("scheduler_file", "storage", "tls_ca_file", "tls_cert", "tls_key"):
        tree["compute"][name] = f"/srv/dask/{name}"
    tree["compute"]["scheduler"] = ""  # it and a file would be two places
    for job in ("check", "retrain", "digest"):
        tree["schedule"][job] = draw(st.sampled_from(["02:00", "Sun 01:00", "0 2 * * *", "30 22 * * MON-FRI"]))
    return tree


def require_read_back(tree: dict[str, dict[str, Any]], folder: Path) -> None:
    wanted = Settings(**{name: type(getattr(Settings(), name))(**content) for name, content in tree.items()})
    (folder / "hftcl.toml").write_text(config.to_toml(wanted), encoding="utf-8")
    assert config.load(None, environ={}, cwd=folder).settings == wanted


@settings(max_examples=10)  # each draws a value of every setting, which takes a quarter of a second
@given(tree=trees())
def test_settings_written_by_the_program_read_back_the_same(
    tree: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    require_read_back(tree, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@settings(max_examples=250)
@given(tree=trees())
def test_many_settings_written_by_the_program_read_back_the_same(
    tree: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    require_read_back(tree, tmp_path_factory.getbasetemp())


names = st.one_of(
    st.sampled_from(sorted({part for key in list_all_leaves() for part in key.split(".")})),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
values = st.recursive(
    st.one_of(
        st.integers(), st.floats(), st.booleans(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.dates(), st.times(), st.datetimes(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100)
@given(document=st.dictionaries(names, values, max_size=5), environ=st.dictionaries(st.text(max_size=5), st.text()))
def test_no_document_and_no_environment_is_more_than_a_fault(
    document: dict[str, Any], environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "hftcl.toml").write_bytes(tomli_w.dumps(document).encode())
    hostile = {f"HFTCL_{name}": value for name, value in environ.items()}
    hostile |= {leaf.variable: value for leaf, value in zip(LEAVES[::5], environ.values(), strict=False)}
    told = faults_or_none(None, folder, hostile)
    assert all(fault.isprintable() for fault in told)


@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_no_bytes_in_a_file_are_more_than_a_fault(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "bytes.toml").write_bytes(data)
    told = faults_or_none(Path("bytes.toml"), folder, {})
    assert all(fault.isprintable() for fault in told)


def faults_or_none(path: Path | None, folder: Path, environ: dict[str, str]) -> tuple[str, ...]:
    """Load, and let every error through that is not the one which a user may cause."""
    try:
        config.load(path, environ=environ | {"HFTCL_CONFIG": ""}, cwd=folder)
    except ConfigError as error:
        return error.faults
    return ()
