"""A model file is believed only when everything about it fits, and then predicts the same for ever."""

import hashlib
import os
import pickle
import platform
import random
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hftcl
from hftcl.archive import artifact
from hftcl.archive.artifact import FeatureSet, ModelMeta, build, describe, load, pick_canary_rows
from hftcl.archive.looks import Look
from hftcl.errors import IntegrityError, NewerVersionError, StorageError
from hftcl.exam.drift import FeatureBins, build_feature_bins
from hftcl.exam.slices import Slice
from hftcl.model.families.forest import Forest
from hftcl.model.serving import Predictor

ROOT = Path(__file__).resolve().parents[2]
NAMES = tuple(f"feature_{number}" for number in range(31))
FEATURES = FeatureSet(names=NAMES, definitions_hash="5" * 64, formulae=tuple(f"formula of {name}" for name in NAMES))

Rows = npt.NDArray[np.float32]


def rows(count: int = 2000, seed: int = 1) -> Rows:
    return np.random.default_rng(seed).normal(size=(count, 31)).astype(np.float32)


def forest(seed: int = 1) -> bytes:
    X = rows()
    y = X[:, 0] + np.random.default_rng(seed).normal(size=len(X)).astype(np.float32)
    params = {**Forest().parameters(), "n_estimators": 100, "min_samples_leaf": 20}
    return Forest().fit(X, y, params, seed=seed, jobs=1, on_step=lambda done, total: None).onnx


META = ModelMeta(
    model_id="20260109_020000",
    feature_names=FEATURES.names,
    feature_formulae=FEATURES.formulae,
    features_hash=FEATURES.definitions_hash,
    target="open to open over trailing volatility",
    horizon_minutes=30,
    threshold=float(np.float32(0.0456)),
    entry_quantile=0.9,
    cost_bps=1.0,
    flat_minutes_before_close=2,
    tickers=("AAPL", "BRK.B"),
    calendar="XNYS",
    extended_hours=False,
    trained_from=date(2025, 9, 1),
    trained_to=date(2025, 12, 5),
    label_end=datetime(2025, 12, 5, 20, 59, tzinfo=UTC),
    exam_from=date(2025, 12, 9),
    exam_to=None,
    rows=2000,
    data_digest=artifact.digest_data(rows(), rows()[:, 0]),
    family="forest",
    params={"n_estimators": 100, "max_features": "sqrt"},
    seed=1,
    versions=artifact.find_library_versions("scikit-learn 1.9"),
    source="files",
    synthetic=False,
    importances=tuple([1 / 31] * 31),
)


def test_a_model_says_the_version_of_each_library_and_whose_training_it_was() -> None:
    told = artifact.find_library_versions("an engine", {"onnx": "99.0"})
    packages = ("numpy", "scikit-learn", "onnxruntime", "polars")
    of_process = {"hftcl": hftcl.__version__, "python": platform.python_version(), "engine": "an engine"}
    assert told == {**of_process, **{package: version(package) for package in packages}, "onnx": "99.0"}
    assert artifact.find_library_versions("")["onnx"] == version("onnx")


@pytest.fixture(scope="module")
def graph() -> bytes:
    return forest()


@pytest.fixture(scope="module")
def data(graph: bytes) -> bytes:
    """Return the bytes of a good model file."""
    return build(graph, META, pick_canary_rows(rows()))


@pytest.fixture
def path(data: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "model_20260109_020000.onnx"
    file.write_bytes(data)
    return file


def sealed(model: Any) -> bytes:
    """Return an ONNX model as a file whose tail fits it, so that only the checks behind the digest can refuse it."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != artifact._DIGEST_KEY]
    del model.metadata_props[:]
    for key, value in kept:
        model.metadata_props.add(key=key, value=value)
    body = model.SerializeToString()
    return bytes(body + artifact._TAIL_HEAD + hashlib.sha256(body).hexdigest().encode())


def with_meta(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the file with its metadata changed by `change`, and a digest that fits."""
    model = onnx.load_model_from_string(data)
    meta = msgspec.json.decode(model.metadata_props[0].value)
    change(meta)
    model.metadata_props[0].value = msgspec.json.encode(meta).decode()
    return sealed(model)


def test_a_model_file_tells_what_was_put_in_and_predicts_as_the_graph_does(graph: bytes, path: Path) -> None:
    model = load(path, expected_features=FEATURES)
    assert replace(model.meta, canary_rows=(), canary_predictions=()) == META
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert describe(path) == model.meta
    bare = Predictor(graph, 31).predict(rows())
    predicted = model.predict(rows())
    assert predicted.dtype == np.float32
    assert (predicted == bare).all()


def test_a_model_file_is_an_onnx_model_that_any_onnx_tool_accepts(path: Path) -> None:
    onnx.checker.check_model(onnx.load(path))
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert sorted(entries) == ["hftcl", "hftcl.sha256"]
    assert msgspec.json.decode(entries["hftcl"])["feature_names"] == list(NAMES)


def test_the_same_model_gives_the_same_file(graph: bytes, data: bytes) -> None:
    assert build(graph, META, pick_canary_rows(rows())) == data
    assert build(forest(seed=2), META, pick_canary_rows(rows())) != data


LOOK = Look(policy="p", positions="x", sharpe=1.25, sessions=(date(2026, 1, 2), date(2026, 1, 5)))


def test_slices_and_look_of_the_exam_join_the_file_and_leave_graph_canaries_and_the_rest_as_they_were(
    data: bytes,
) -> None:
    part = Slice(name="AAPL", gross=0.01, cost=0.001, turnover=10.0, trades=3, held_share=0.2)
    sliced = artifact.add_exam(data, {"ticker": (part,)}, LOOK)
    before, after = load(data), load(sliced, expected_features=FEATURES)
    assert after.meta == replace(before.meta, exam_slices={"ticker": (part,)}, exam_look=LOOK)
    assert (after.predict(rows()) == before.predict(rows())).all()
    graphs = [onnx.load_model_from_string(file).graph for file in (data, sliced)]
    assert graphs[0] == graphs[1]
    assert artifact.add_exam(sliced, {"ticker": (part,)}, LOOK) == sliced


def test_the_model_that_was_examined_goes_on_as_that_of_the_file_with_its_exam(data: bytes) -> None:
    part = Slice(name="AAPL", gross=0.01, cost=0.001, turnover=10.0, trades=3, held_share=0.2)
    file, model = artifact.finish_exam(load(data), data, {"ticker": (part,)}, LOOK)
    opened = load(file)
    assert (model.meta, model.sha256) == (opened.meta, opened.sha256)
    assert (model.predict(rows()) == opened.predict(rows())).all()


def test_the_model_that_a_training_gives_goes_on_as_that_of_its_file(graph: bytes, data: bytes) -> None:
    opened, bare = artifact.open_trained(graph, replace(META, rows=0))
    file, model = artifact.complete(opened, bare, META, pick_canary_rows(rows()))
    assert file == data
    kept = load(data)
    assert (model.meta, model.sha256) == (kept.meta, kept.sha256)
    assert (model.predict(rows()) == kept.predict(rows())).all()


def test_settings_that_are_whole_numbers_where_a_decimal_belongs_make_the_same_file(graph: bytes) -> None:
    """Settings that were built in Python may be so."""
    decimal = replace(META, cost_bps=1.0, half_life_days=30.0, entry_quantile=0.0, threshold=1.0)
    whole = replace(META, cost_bps=1, half_life_days=30, entry_quantile=0, threshold=1)
    opened, bare = artifact.open_trained(graph, whole)
    file, model = artifact.complete(opened, bare, whole, pick_canary_rows(rows()))
    assert file == build(graph, decimal, pick_canary_rows(rows()))
    finished, examined = artifact.finish_exam(model, file, {}, LOOK)
    assert finished == artifact.add_exam(file, {}, LOOK)
    assert (examined.meta, examined.sha256) == (load(finished).meta, load(finished).sha256)


@pytest.mark.parametrize("changes", [{"seed": META.seed + 1}, {}], ids=["its metadata", "its graph alone"])
def test_an_exam_is_never_written_into_the_file_of_another_model(data: bytes, changes: dict[str, Any]) -> None:
    other = build(forest(seed=2), replace(META, **changes), pick_canary_rows(rows()))
    examined = load(other)
    if not changes:  # of the same metadata, canaries included: what tells them apart is the SHA-256
        examined = artifact.Model(load(data).meta, examined.sha256, examined._predictor)
    with pytest.raises(IntegrityError, match=f"{META.model_id} was examined, and this is another file"):
        artifact.finish_exam(examined, data, {}, LOOK)


def test_the_bins_of_the_features_survive_and_those_of_other_features_are_refused(graph: bytes) -> None:
    bins = build_feature_bins(rows())
    file = build(graph, replace(META, feature_bins=bins), pick_canary_rows(rows()))
    assert describe(file).feature_bins == bins
    for wrong in (bins[:-1], (*bins[:-1], FeatureBins(edges=(0.0,), shares=(1.0,)))):
        with pytest.raises(IntegrityError, match="its bins are not those of 31 features"):
            build(graph, replace(META, feature_bins=wrong), pick_canary_rows(rows()))


def test_the_hours_of_an_earlier_release_keep_their_names(data: bytes) -> None:
    part = Slice(
        name="360 to 419",
        detail="minutes from the open",
        gross=0.01,
        cost=0.001,
        turnover=3.0,
        trades=4,
        held_share=0.5,
    )
    assert load(artifact.add_exam(data, {"hour": (part,)}, None)).meta.exam_slices == {"hour": (part,)}


def test_a_file_of_a_release_without_bins_and_slices_still_serves(data: bytes) -> None:
    def older(meta: dict[str, Any]) -> None:
        del meta["feature_bins"], meta["exam_slices"]

    meta = load(with_meta(data, older)).meta
    assert (meta.feature_bins, meta.exam_slices) == (None, None)


def test_the_canaries_are_training_rows_and_extremes_and_tell_models_apart(data: bytes) -> None:
    meta = describe(data)
    canaries = np.array(meta.canary_rows, dtype=np.float32)
    assert canaries.shape == (16, 31)
    assert (canaries == pick_canary_rows(rows())).all()
    assert np.abs(canaries).max() == np.float32(1e30)
    assert len(set(meta.canary_predictions)) > 8


@pytest.mark.hazard(21)
def test_predictions_are_equal_to_the_bit_over_calls_batch_sizes_threads_and_restarts(path: Path) -> None:
    X = rows(3000, seed=5)
    model = load(path)
    whole = model.predict(X)
    for size in (1, 2, 7, 100, 2999):
        assert (np.concatenate([model.predict(X[at : at + size]) for at in range(0, len(X), size)]) == whole).all()
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(bool((model.predict(X) == whole).all()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    script = (
        "import hashlib, sys, numpy as np; from pathlib import Path; from hftcl.archive.artifact import load\n"
        "X = np.random.default_rng(5).normal(size=(3000, 31)).astype(np.float32)\n"
        "print(hashlib.sha256(load(Path(sys.argv[1])).predict(X).tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (hashlib.sha256(whole.tobytes()).hexdigest(), "")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_model_refuses_rows_that_are_not_known(data: bytes, bad: float) -> None:
    X = rows(5)
    X[2, 7] = bad
    with pytest.raises(ValueError, match="1 of 5 rows hold a value that is not finite"):
        load(data).predict(X)
    with pytest.raises(ValueError, match=r"float32 rows of 31 features, got float64 \(5, 31\)"):
        load(data).predict(rows(5).astype(np.float64))


class Bomb:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("exploded",))


def foreign_files(folder: Path, data: bytes) -> dict[str, Path]:
    """Return a file of each kind that may lie where a model should."""
    found = {name: folder / name for name in ("pickle", "zip", "text", "empty", "sparse", "onnx", "twice", "padded")}
    found["pickle"].write_bytes(pickle.dumps(Bomb()))
    with zipfile.ZipFile(found["zip"], "w") as archive:
        archive.writestr("model.onnx", data)
    found["text"].write_text("the model is in the other folder\n" * 100)
    found["empty"].touch()
    with found["sparse"].open("wb") as file:
        file.truncate(2**30)
    found["onnx"].write_bytes(data[: -artifact._TAIL_BYTES])  # a valid model, without our tail
    found["twice"].write_bytes(data + data)
    found["padded"].write_bytes(data + b"\0")
    return found


LOAD_ALL = """
import sys, time
from pathlib import Path
from hftcl.archive.artifact import load
from hftcl.errors import IntegrityError
for file in sorted(Path().iterdir()):
    began = time.process_time()  # not of the wall: a loaded machine may take its time
    try:
        load(file)
    except IntegrityError as error:
        if time.process_time() - began < 1 and str(file) in str(error):
            print(file, "refused")
print(*sorted({"onnx", "onnxruntime", "google.protobuf"} & set(sys.modules)))
"""


@pytest.mark.hazard(16)
def test_a_foreign_file_is_refused_before_anything_in_it_is_interpreted(data: bytes, tmp_path: Path) -> None:
    names = sorted(foreign_files(tmp_path, data))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    # The last line is empty: no library that could interpret a model was even imported.
    assert (done.stdout.splitlines(), done.stderr) == ([*(f"{name} refused" for name in names), ""], "")
    assert sorted(file.name for file in tmp_path.iterdir()) == names  # the pickle did not go off


@pytest.mark.hazard(16)
def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(IntegrityError, match="is not a regular file"):
            load(place)
    with pytest.raises(IntegrityError, match="absent is missing"):
        load(tmp_path / "absent")
    with pytest.raises(StorageError, match="cannot be read"):
        load(tmp_path / ("x" * 300))


@pytest.mark.hazard(17)
def test_none_of_1000_mutations_loads_with_or_without_the_registered_hash(data: bytes) -> None:
    random = np.random.default_rng(17)
    expected = hashlib.sha256(data).hexdigest()
    for case in range(1000):
        mutated = bytearray(data)
        at = int(random.integers(len(data)))
        if case % 4 == 0:
            del mutated[at:]
        elif case % 4 == 1:  # in the tail and the metadata, where it matters most
            mutated[len(data) - 1 - at % 8000] ^= 1 << int(random.integers(8))
        else:
            mutated[at] ^= 1 << int(random.integers(8))
        for sha256 in (expected, None):
            with pytest.raises(IntegrityError):
                load(bytes(mutated), expected_sha256=sha256)


def test_a_good_file_that_is_not_the_registered_one_is_refused(data: bytes) -> None:
    load(data, expected_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(IntegrityError, match="is not the one that was registered"):
        load(data, expected_sha256="0" * 64)


@pytest.mark.hazard(20)
@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (replace(FEATURES, definitions_hash="6" * 64), "what they share changed"),
        (replace(FEATURES, names=NAMES[::-1], definitions_hash="6" * 64), "their order changed"),
        (replace(FEATURES, names=NAMES[::-1]), "their order changed"),
        (
            replace(FEATURES, names=("new_one", *NAMES[1:]), definitions_hash="6" * 64),
            "feature_0 is gone; new_one is new",
        ),
        (
            replace(FEATURES, definitions_hash="6" * 64, formulae=("other", *FEATURES.formulae[1:])),
            "feature_0 is defined otherwise",
        ),
    ],
    ids=["definition", "order", "order alone", "name", "formula"],
)
def test_a_model_of_other_features_is_refused_and_the_change_is_named(
    data: bytes, ours: FeatureSet, message: str
) -> None:
    with pytest.raises(IntegrityError, match=message):
        load(data, expected_features=ours)


def test_the_features_of_this_program_are_31_with_their_formulae() -> None:
    ours = artifact.list_our_features()
    assert (len(ours.names), len(ours.formulae), len(ours.definitions_hash)) == (31, 31, 64)


@pytest.mark.hazard(19)
def test_a_model_whose_canaries_answer_otherwise_is_refused_and_the_changed_library_is_named(data: bytes) -> None:
    def upgrade(meta: dict[str, Any]) -> None:
        meta["canary_predictions"][3] += 2e-6
        meta["versions"]["onnxruntime"] = "0.1"

    with pytest.raises(
        IntegrityError, match=r"predicts otherwise than when it was trained, by 2e-06.*onnxruntime 0\.1"
    ):
        load(with_meta(data, upgrade))

    def rounding(meta: dict[str, Any]) -> None:
        meta["canary_predictions"][3] += 5e-7

    load(with_meta(data, rounding))


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda meta: meta.pop(name)


def updated(change: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda meta: meta.update(change)


# What a release before them did not write: without one, the file means what it meant then.
LATER = {"feature_sources", "feature_bins", "exam_slices", "coverage", "side", "volatility", "entry", "horizon"}
LATER |= {"half_life_days", "novelty", "selection", "format", "bars_by_session", "bars_by_ticker", "columns"}
LATER |= {"ticker_models", "max_rows", "exam_look"}


def test_metadata_that_lack_a_field_or_have_one_of_another_type_are_refused(data: bytes) -> None:
    for name in asdict(META):
        if name in LATER:
            continue
        with pytest.raises(IntegrityError, match="incomplete metadata"):
            load(with_meta(data, without(name)))
    changes: list[dict[str, Any]] = [
        {"threshold": None},
        {"rows": "many"},
        {"label_end": "2025-12-05T20:59:00"},
        {"canary_rows": [[1.0]]},
        {"canary_predictions": []},
        {"feature_bins": [[0.0]]},
        {"bars_by_session": ["2025-12-05"]},
        {"exam_slices": {"side": [{"name": "long"}]}},
        {"side": "neither"},
        {"volatility": {"AAPL": "calm"}},
        {"novelty": {"quantile": 0.9, "limit": 1.0, "mean": [0.0], "deviation": [1.0]}},
    ]
    for change in changes:
        with pytest.raises(IntegrityError, match="incomplete metadata"):
            load(with_meta(data, updated(change)))


def test_metadata_that_could_not_be_read_back_are_refused_when_the_file_is_built(graph: bytes) -> None:
    with pytest.raises(IntegrityError, match="incomplete metadata"):
        build(graph, replace(META, threshold=float("nan")), pick_canary_rows(rows()))


def test_a_file_of_a_newer_hftcl_says_so(data: bytes) -> None:
    with pytest.raises(NewerVersionError, match=r"format 4; this hftcl .* reads up to 3") as caught:
        load(with_meta(data, lambda meta: meta.update(format=4)))
    assert caught.value.exit_code == 78


def external_data(model: Any) -> None:
    tensor = model.graph.initializer.add(name="w", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")


def other_operator(model: Any) -> None:
    model.graph.node[0].op_type = "TreeEnsembleClassifier"


def other_domain(model: Any) -> None:
    model.graph.node[0].domain = "com.microsoft"


def second_input(model: Any) -> None:
    model.graph.input.add(name="Z").type.CopyFrom(model.graph.input[0].type)


def double_output(model: Any) -> None:
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def other_width(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 30


def subgraph(model: Any) -> None:
    model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.name = "loop"


def function(model: Any) -> None:
    model.functions.add(name="f", domain="ai.onnx.ml")


def split_beyond_the_row(model: Any) -> None:
    (ids,) = (a for a in model.graph.node[0].attribute if a.name == "nodes_featureids")
    ids.ints[0] = 1_000_000


def further_metadata(model: Any) -> None:
    model.metadata_props.add(key="ort_config", value="{}")


def broken_tree(model: Any) -> None:
    (ids,) = (a for a in model.graph.node[0].attribute if a.name == "nodes_truenodeids")
    ids.ints[0] = 10_000_000


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (external_data, "points to data outside"),
        (other_operator, "operators that no model of hftcl has: TreeEnsembleClassifier"),
        (other_domain, "operators that no model of hftcl has: TreeEnsembleRegressor"),
        (second_input, "does not take X"),
        (double_output, "does not take X"),
        (other_width, "does not take X"),
        (subgraph, "a graph within its graph"),
        (function, "more than a graph"),
        (split_beyond_the_row, "splits on a feature that it does not have"),
        (further_metadata, "does not hold exactly the metadata"),
        (broken_tree, "cannot be served"),
    ],
)
def test_a_graph_that_is_more_or_else_than_trees_is_refused_although_its_digest_fits(
    data: bytes, harm: Callable[[Any], None], message: str
) -> None:
    model = onnx.load_model_from_string(data)
    load(sealed(model))
    harm(model)
    with pytest.raises(IntegrityError, match=message):
        load(sealed(model))


@settings(max_examples=60)
@given(body=st.binary(max_size=300))
def test_arbitrary_bytes_under_a_fitting_digest_are_an_integrity_error_and_nothing_else(body: bytes) -> None:
    with pytest.raises(IntegrityError):
        load(body + artifact._TAIL_HEAD + hashlib.sha256(body).hexdigest().encode())


def test_the_digest_of_the_training_rows_tells_values_targets_and_order_apart() -> None:
    X, y = rows(50), rows(50)[:, 0]
    digests = {
        artifact.digest_data(X, y),
        artifact.digest_data(X, -y),
        artifact.digest_data(X[::-1], y),
        artifact.digest_data(np.nextafter(X, np.float32(9)), y),
    }
    assert len(digests) == 4
    assert artifact.digest_data(np.asfortranarray(X), y) in digests


def test_importing_the_room_loads_neither_onnx_nor_a_learning_library() -> None:
    script = (
        "import sys; import hftcl.archive.artifact\n"
        "print(*sorted({'sklearn', 'onnx', 'onnxruntime', 'polars', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.hazard(16)
def test_a_damaged_graph_is_one_sentence_of_ours_and_no_line_of_the_library(capfd: pytest.CaptureFixture[str]) -> None:
    graph, messages = forest(), []
    for seed in range(30):
        chance, damaged = random.Random(seed), bytearray(graph)  # noqa: S311
        for _ in range(3):
            damaged[chance.randrange(400)] ^= chance.randrange(1, 256)
        try:
            Predictor(bytes(damaged), 31)
        except IntegrityError as error:
            messages.append(str(error))
    assert capfd.readouterr().err == ""
    assert sum("onnxruntime cannot open the model" in message for message in messages) > 20
    assert max(map(len, messages)) < 300
    assert not any("\n" in message for message in messages)
