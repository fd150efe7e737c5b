"""Training happens in a child process that nothing outlives, and that gives the same model every time."""

import asyncio
import io
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from hftcl.errors import ConfigError, StorageError, TrainingError, UsageError
from hftcl.events import Event
from hftcl.model.deadline import Deadline
from hftcl.model.serving import Predictor
from hftcl.model.training import Trained, TrainingPool, TrainingTask, train
from hftcl.model.training_process import build_environment
from tests.benchmarks.test_retrain_cost import read_anonymous
from tests.installed import PATIENCE_S
from tests.processes import children, find_trainers, lives, wait_until, wait_until_ended

pytestmark = pytest.mark.usefixtures("no_warm_trainers")

ROOT = Path(__file__).resolve().parents[2]
PARAMS = {"n_estimators": 20, "max_depth": 6, "min_samples_leaf": 5}
# A script that trains; DONE after a training, and FIT once the child is in a fit that takes minutes.
SCRIPT = """
import sys
import numpy as np
from hftcl.model.training import TrainingTask, train
random = np.random.default_rng(1)
X = random.normal(size=(2000, 31)).astype(np.float32)
y = X[:, 0] + random.normal(size=2000).astype(np.float32)
row = np.arange(2000)
task = TrainingTask(X=X, y=y, fitted=row < 1400, held_out=row >= 1600, family={family!r}, params={params})
trained = train(task, lambda event: print("FIT", flush=True))
print("DONE", trained.threshold, len(trained.onnx) > 1000)
"""
ENDLESS = {"n_estimators": 10_000, "max_features": 1.0, "max_depth": 64, "min_samples_leaf": 1}


def task(**changes: Any) -> TrainingTask:
    """Return 800 rows of which the first 500 are fitted for the threshold, and the last 200 held out for it."""
    random = np.random.default_rng(1)
    rows = 800
    X = random.normal(size=(rows, 31)).astype(np.float32)
    y = (X[:, 0] + random.normal(size=rows)).astype(np.float32)
    row = np.arange(rows)
    # A quantile between two rows, which is a float32 by chance only.
    asked = TrainingTask(X=X, y=y, fitted=row < 500, held_out=row >= 600, params=PARAMS, jobs=1, entry_quantile=0.8765)
    return replace(asked, **changes)


def quick(**changes: Any) -> TrainingTask:
    """Return those rows for a ridge: its process begins in a moment, where one of trees loads for two seconds."""
    return task(family="ridge", params={}, **changes)


LATE_S = 60  # what a child that is left alone does for that long is found, and no test hangs


FAMILY = """
import os, sys, time
from hftcl.errors import UsageError
class {name}:
    name = "{name}"
    def parameters(self): return {{}}
    def check(self, params): return params
    def fit(self, X, y, params, **more):
        {body}
"""


SLOW_CHECK = """
from hftcl.model.families.ridge import Ridge
class checker(Ridge):
    name = "checker"
    def finish_brief(self, fitted, X, *, jobs):
        max(iter(int, 1), key=hash)
"""


def strangers_family(folder: Path, name: str, body: str) -> None:
    """Install a plug-in the way pip does: a module and the entry points of its distribution."""
    sys.modules.pop(name, None)  # one of this name may be another test's
    (folder / f"{name}.py").write_text(FAMILY.format(name=name, body=body))
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hftcl.families]\n{name} = {name}:{name}\n")


@pytest.fixture
def sleeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingTask:
    """Return a task whose child reports one step and then takes a minute."""
    strangers_family(tmp_path, "sleeper", 'more["on_step"](0, 1); time.sleep(60)')
    monkeypatch.syspath_prepend(tmp_path)
    return task(family="sleeper", params={})


@pytest.fixture(scope="module")
def trained() -> Trained:
    """Return what a training of `quick()` gives; a training starts a process, so most tests share this one."""
    return train(quick())


def environment(**more: str) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


@contextmanager
def training_script(
    *, params: dict[str, Any], before: str = "", folder: Path
) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Yield a script in the middle of a fit that takes minutes, and the process id of its training child."""
    script = folder / "script.py"
    script.write_text(before + SCRIPT.format(family="forest", params=params))
    (folder / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=environment(TMPDIR=str(folder / "tmp")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "FIT\n"
            (child,) = children(parent.pid)
            yield parent, child
        finally:
            if parent.poll() is None:
                parent.kill()


def test_a_training_gives_a_graph_an_estimator_a_threshold_and_its_facts() -> None:
    asked = task()
    events: list[Event] = []
    trained = train(asked, events.append)
    predictions = Predictor(trained.onnx, 31).predict(asked.X)
    estimator = joblib.load(io.BytesIO(trained.pkl))
    np.testing.assert_allclose(predictions, estimator.predict(asked.X), rtol=0, atol=1e-6)
    assert estimator.n_estimators == trained.params["n_estimators"] == 20
    assert trained.params["max_features"] == "sqrt"  # the default, which the task did not name
    engine, fitted_by = trained.engine.split()
    assert engine.startswith("scikit-learn")
    assert fitted_by == version(engine)
    assert trained.versions == {name: version(name) for name in ("numpy", "scikit-learn", "onnx")}
    assert trained.importances is not None
    assert int(np.argmax(trained.importances)) == 0
    assert [(event.stage, event.total) for event in events] == [("fit", 40)] * len(events)
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert (events[0].done, events[-1].done) == (0, 40)


def test_the_threshold_is_the_quantile_over_rows_that_the_inner_model_has_not_seen(trained: Trained) -> None:
    asked = quick()
    half = np.arange(500) < 250
    known = replace(asked, X=asked.X[:500], y=asked.y[:500], fitted=half, held_out=~half)
    inner = train(known)  # whose final model is the other's inner one
    held = np.abs(Predictor(inner.onnx, 31).predict(asked.X[600:])).astype(np.float64)
    exact = float(np.quantile(held, 0.8765))
    assert trained.threshold == float(np.float32(exact)) != exact


def test_labels_of_the_held_out_and_embargoed_rows_do_not_move_the_inner_model(trained: Trained) -> None:
    asked = quick()
    other = train(replace(asked, y=np.where(asked.fitted, asked.y, -asked.y)))
    assert other.threshold == trained.threshold
    assert other.onnx != trained.onnx


@pytest.mark.hazard(21)
def test_two_trainings_in_two_processes_give_the_same_files_to_the_byte_whatever_the_cores() -> None:
    first = train(task())
    with TrainingPool() as pool:
        again, other = pool.train(task(jobs=2)), pool.train(task(seed=43))
    assert (again.onnx, again.threshold, again.importances) == (first.onnx, first.threshold, first.importances)
    assert again.pkl == first.pkl
    assert other.onnx != first.onnx


def test_wrong_arrays_unknown_families_and_parameters_are_refused_before_a_process_starts() -> None:
    good = task()
    holed = good.X.copy()
    holed[3, 3] = np.nan
    with pytest.raises(ValueError, match="X holds a value that is not finite"):
        train(replace(good, X=holed))
    with pytest.raises(ValueError, match="must each name a row, and no row in both"):
        train(task(held_out=np.ones(800, bool)))
    with pytest.raises(ValueError, match="must each name a row"):
        train(task(fitted=np.zeros(800, bool)))
    with pytest.raises(ValueError, match="y must be float32 with 800 rows"):
        train(replace(good, y=good.y[:-1]))
    with pytest.raises(ConfigError, match="No model family 'oracle'"):
        train(replace(good, family="oracle"))
    with pytest.raises(UsageError, match="Did you mean n_estimators"):
        train(replace(good, params={"n_estimator": 3}))


@pytest.mark.hazard(45)
def test_a_child_does_not_outlive_a_parent_that_was_killed_and_leaves_no_file(tmp_path: Path) -> None:
    with training_script(params=ENDLESS, folder=tmp_path) as (parent, child):
        os.kill(parent.pid, signal.SIGKILL)
        wait_until_ended(child)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.hazard(45)
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_an_interrupted_parent_ends_its_child_at_once_and_only_the_parent_says_so(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    handler = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    with training_script(params=ENDLESS, folder=tmp_path, before=handler) as (parent, child):
        os.killpg(parent.pid, number)  # a terminal sends Ctrl-C to the whole group
        _, said = parent.communicate(timeout=PATIENCE_S)
        assert not lives(child), "the parent waits for its end before its own"
    assert parent.returncode == status
    assert said.count("Traceback") == (1 if number == signal.SIGINT else 0)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.hazard(46)
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, r"was killed \(SIGKILL\), most likely for lack of memory"),
        (signal.SIGTERM, "was ended by SIGTERM"),
    ],
)
def test_a_child_that_the_kernel_killed_is_told_as_a_lack_of_memory(
    sleeper: TrainingTask, number: signal.Signals, message: str
) -> None:
    def strike(event: Event) -> None:
        (child,) = find_trainers(os.getpid())
        os.kill(child, number)

    with pytest.raises(TrainingError, match=message):
        train(sleeper, strike)


@pytest.mark.hazard(46)
def test_a_training_that_does_not_end_in_time_is_stopped(sleeper: TrainingTask) -> None:
    with pytest.raises(TrainingError, match=r"did not end within 1\.5 s and was stopped"):
        train(sleeper, timeout_s=1.5)
    assert find_trainers(os.getpid()) == []


CHATTER = """end = time.time() + {most_s}
        while time.time() < end:
            {say}
        raise SystemExit"""


@pytest.mark.hazard(46)
@pytest.mark.parametrize("say", ['more["on_step"](0, 1)', 'os.write(2, b"x" * 65536)'], ids=["progress", "stderr"])
def test_a_training_that_talks_without_end_is_stopped_in_time_too(
    say: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers_family(tmp_path, "chatter", CHATTER.format(most_s=LATE_S, say=say))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TrainingError, match=r"did not end within 1\.5 s and was stopped"):
        train(task(family="chatter", params={}), timeout_s=1.5)
    assert find_trainers(os.getpid()) == []


def test_a_training_that_was_stopped_has_the_last_of_what_it_said_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers_family(
        tmp_path, "stuck", 'print("waiting for a lock", flush=True); more["on_step"](0, 1); time.sleep(60)'
    )
    monkeypatch.syspath_prepend(tmp_path)
    now = time.monotonic()

    def pass_time(event: Event) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: now + 1800)

    with pytest.raises(TrainingError, match="did not end within 600 s") as caught:
        train(task(family="stuck", params={}), pass_time, timeout_s=600)
    assert "waiting for a lock" in "".join(caught.value.__notes__)


TALKER = """
import os, sys, time
from pathlib import Path
from hftcl.model.families.ridge import Ridge
class talker(Ridge):
    name = "talker"
    def fit(self, X, y, params, **more):
        if (heard := Path({heard!r})).with_name("fail").exists():
            raise ValueError("no rows")
        os.write(2, b"of the first")
        more["on_step"](0, 1)
        end = time.time() + {most_s}
        while not heard.exists() and time.time() < end:
            time.sleep(0.01)
        return super().fit(X, y, params, **more)
"""


def test_what_one_training_said_is_no_note_on_the_next_one_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers_family(tmp_path, "talker", "")
    (tmp_path / "talker.py").write_text(TALKER.format(heard=str(tmp_path / "heard"), most_s=LATE_S))
    monkeypatch.syspath_prepend(tmp_path)
    asked = task(family="talker", params={})
    with TrainingPool() as pool:
        pool.train(asked, lambda event: (tmp_path / "heard").touch())
        children = find_trainers(os.getpid())
        (tmp_path / "fail").touch()
        with pytest.raises(TrainingError, match="no rows") as caught:
            pool.train(asked)
        assert len(children) == 1
    assert "of the first" not in "".join(caught.value.__notes__)


GARBAGE = """for number in range(3, 64):
            try:
                if os.readlink(f"/proc/self/fd/{{number}}").startswith("pipe"): os.write(number, {line!r} * {times})
            except OSError:
                continue
        time.sleep({most_s})"""


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"\xff\n",
        b"7\n",
        b"{}\n",
        b'{"facts": 1}\n',
        b'{"done": 3}\n',
        b'{"done": "3", "total": 4, "text": ""}\n',
        b'{"failed": "x", "no_room": "y"}\n',
    ],
    ids=["text", "bytes", "a number", "empty", "facts", "no total", "no number", "two in one"],
)
def test_what_is_no_message_on_the_channel_of_the_child_ends_it_with_a_sentence(
    line: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers_family(tmp_path, "loud", GARBAGE.format(line=line, times=1, most_s=LATE_S))
    monkeypatch.syspath_prepend(tmp_path)
    shown = re.escape(repr(line.rstrip(b"\n")))
    with pytest.raises(TrainingError, match=f"wrote {shown} where its messages belong, and was ended"):
        train(task(family="loud", params={}), timeout_s=LATE_S)
    assert find_trainers(os.getpid()) == []


@pytest.mark.parametrize(("line", "times"), [(b"x", 2_000_000), (b"[" * 100_000 + b"\n", 1)], ids=["no end", "deep"])
def test_a_long_line_on_the_channel_of_the_child_is_neither_kept_nor_a_traceback(
    line: bytes, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers_family(tmp_path, "endless", GARBAGE.format(line=line, times=times, most_s=LATE_S))
    monkeypatch.syspath_prepend(tmp_path)
    shown = re.escape(repr((line * times)[:60]))
    with pytest.raises(TrainingError, match=f"wrote {shown} where its messages belong, and was ended"):
        train(task(family="endless", params={}), timeout_s=LATE_S)


def test_a_family_may_count_its_steps_in_numbers_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strangers_family(tmp_path, "counter", 'import numpy; more["on_step"](numpy.int64(1), 4.0); raise SystemExit')
    monkeypatch.syspath_prepend(tmp_path)
    told: list[Event] = []
    with pytest.raises(TrainingError, match=r"failed in counter.fit \(counter.py, line \d+\): SystemExit"):
        train(task(family="counter", params={}), told.append, timeout_s=LATE_S)
    assert told == [Event("fit", 1, 8, "entry threshold")]


def test_what_takes_long_once_the_graph_stands_is_not_told_as_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers_family(tmp_path, "checker", "pass")
    (tmp_path / "checker.py").write_text(SLOW_CHECK)
    monkeypatch.syspath_prepend(tmp_path)
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        if event.text.endswith(" s of processor time"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(replace(quick(), family="checker", params={}), listen, timeout_s=PATIENCE_S, silence_s=0.5)
    assert {event.stage for event in heard[:-1]} == {"fit"}
    assert (heard[-1].stage, heard[-1].done, heard[-1].total) == ("finish", 0, 1)


@pytest.mark.hazard(47)
def test_a_fit_that_says_nothing_for_long_tells_the_processor_time_that_it_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers_family(tmp_path, "thinker", 'more["on_step"](0, 1); max(iter(int, 1), key=hash)')
    monkeypatch.syspath_prepend(tmp_path)
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        if len(heard) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task(family="thinker", params={}), listen, timeout_s=PATIENCE_S, silence_s=0.5)
    assert [each.text.endswith(" s of processor time") for each in heard] == [False, True, True]
    assert len({each.text for each in heard}) == 3, "each is news"


@pytest.mark.hazard(47)
def test_a_fit_that_stands_still_tells_nothing(sleeper: TrainingTask) -> None:
    heard: list[Event] = []
    with pytest.raises(TrainingError, match="did not end"):
        train(sleeper, heard.append, timeout_s=4, silence_s=0.5)
    assert len(heard) <= 1


def test_an_error_of_the_listener_ends_the_child(sleeper: TrainingTask) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError("the screen is gone")

    with pytest.raises(RuntimeError, match="the screen is gone"):
        train(sleeper, fail)
    assert find_trainers(os.getpid()) == []


@pytest.mark.parametrize(
    ("name", "body", "message", "note"),
    [
        ("broken", 'print("a clue"); raise ZeroDivisionError("no rows")', "ZeroDivisionError: no rows", "a clue"),
        ("careful", 'raise UsageError("needs a graphics card")', "gave up: needs a graphics card. The", ""),
        ("greedy", "bytearray(10**15)", "ran out of memory", ""),
        ("silent", "os._exit(7)", "failed with exit status 7: it said nothing", ""),
        ("chatty", 'sys.stderr.write("x" * 10**6); raise ValueError("enough")', "ValueError: enough", "xxx"),
    ],
)
def test_a_family_that_fails_is_a_training_error_with_the_last_of_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str, message: str, note: str
) -> None:
    strangers_family(tmp_path, name, body)
    monkeypatch.syspath_prepend(tmp_path)  # in this process's path only: the child must get it from here
    with pytest.raises(TrainingError) as caught:
        train(task(family=name, params={}))
    notes = "".join(getattr(caught.value, "__notes__", []))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert note in notes
    assert len(notes) <= 4096


@pytest.mark.hazard(59)
def test_no_secret_reaches_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strangers_family(tmp_path, "nosy", 'raise ValueError(" ".join(sorted(os.environ.values())))')
    monkeypatch.syspath_prepend(tmp_path)
    names = ("POLYGON_API_KEY", "MASSIVE_API_KEY", "SMTP_PASSWORD", "ALERT_URL", "APCA_API_SECRET_KEY", "ANYTHING")
    for name in names:
        monkeypatch.setenv(name, f"canary-{name}")
    with pytest.raises(TrainingError) as caught:
        train(task(family="nosy", params={}))
    assert os.environ["PATH"] in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_full_disk_is_told_with_the_folder_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/1/nowhere")
    with pytest.raises(StorageError, match=r"could not be written to /proc/1/nowhere.*TMPDIR"):
        train(task())
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(StorageError, match="File too large"):
            train(task())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize(
    ("family", "columns", "limit"),
    [("ridge", 31, 4_096), ("forest", 2, 8_192)],
    ids=["the rows of the first fit", "the model"],
)
def test_a_full_disk_of_the_child_is_told_as_that_and_not_as_a_training_that_failed(
    family: str, columns: int, limit: int
) -> None:
    """A search keeps a training that failed as a trial that cannot be had; one for which the disk had no room, not."""
    params = {} if family == "ridge" else PARAMS
    asked = task(family=family, params=params, X=np.ascontiguousarray(task().X[:, :columns]))
    with TrainingPool() as pool:
        pool.prepare(family)
        (child,) = find_trainers(os.getpid())
        resource.prlimit(child, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        folder = re.escape(tempfile.gettempdir())
        with pytest.raises(StorageError, match=rf"to {folder}: File too large\. Free space there, or set TMPDIR to"):
            pool.train(asked)


@pytest.mark.parametrize("name", ["TMPDIR", "TEMP", "TMP"])
def test_the_files_of_the_child_lie_where_ours_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, str(tmp_path))
    told = subprocess.run(
        [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"],
        env=build_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert told.stdout == f"{tmp_path}\n"


def test_a_pool_trains_in_one_process_after_the_other_task_and_leaves_none(trained: Trained) -> None:
    with TrainingPool() as pool:
        pool.prepare("ridge")
        (prepared,) = find_trainers(os.getpid())
        first, second = pool.train(quick()), pool.train(quick(y=-quick().y))
        assert find_trainers(os.getpid()) == [prepared]
        again = pool.train(quick())
    assert find_trainers(os.getpid()) == []
    assert (first.onnx, first.threshold) == (again.onnx, again.threshold) == (trained.onnx, trained.threshold)
    assert second.onnx != first.onnx


FRAGMENTS = """from hftcl.model.families.ridge import Ridge
        blocks = [b"x" * 65536 for _ in range(2000)]
        type(self).kept = blocks[-1]
        return Ridge().fit(X, y, Ridge().parameters(), **more)"""


def test_a_training_process_that_waits_holds_nothing_that_its_training_has_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small block above 125 MiB of freed ones keeps them all, until the C library is asked."""
    strangers_family(tmp_path, "fragments", FRAGMENTS)
    monkeypatch.syspath_prepend(tmp_path)
    with TrainingPool() as pool:
        pool.train(task(family="fragments", params={}))
        wait_until(lambda: pool.measure_memory()[0] < pool.measure_memory()[1] - (100 << 20))


def test_the_second_fit_begins_without_what_the_first_one_has_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "held"
    measure = f"""import pathlib
        status = pathlib.Path("/proc/self/status").read_text()
        with pathlib.Path({str(file)!r}).open("a") as held:
            held.write(status.partition("RssAnon:")[2].split()[0] + "\\n")
        """
    strangers_family(tmp_path, "fragments", measure + FRAGMENTS)
    monkeypatch.syspath_prepend(tmp_path)
    with TrainingPool() as pool:
        pool.train(task(family="fragments", params={}))
    first, second = map(int, file.read_text().split())
    assert second < first + (60 << 10), "KiB; the first fit has freed 125 MiB"


def test_who_waits_for_a_training_holds_nothing_that_it_has_freed() -> None:
    blocks = [b"x" * 65536 for _ in range(2000)]
    kept, blocks = blocks[-1], []
    held = read_anonymous(os.getpid())
    with TrainingPool() as pool:
        pool.train(quick())
    assert read_anonymous(os.getpid()) < held - (100 << 20), f"{len(kept)} bytes keep all that lies below them"


LATE = """
import pathlib, time
from hftcl.errors import TrainingError
from hftcl.model.families.ridge import Ridge
from hftcl.waiting import GLANCE_S
class Late(Ridge):
    name = "late"
    def finish_brief(self, fitted, X, *, jobs):
        wait_for_file({go!r})
        {then}
def wait_for_file(path):
    end = time.monotonic() + {most_s}
    while not pathlib.Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(GLANCE_S)
import hftcl.model.families.forest as forest
compare = forest.require_same
class LateForest(forest.Forest):
    name = "late_forest"
def compare_late(*what, **options):
    wait_for_file({go!r})
    compare(*what, **options)
forest.require_same = compare_late
"""


def count_epolls() -> int:
    """Return how many descriptors of this process wait for others."""
    links: list[str] = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the folder itself is closed by now
            links.append(str(entry.readlink()))
    return links.count("anon_inode:[eventpoll]")


def late_family(folder: Path, then: str) -> Path:
    """Install a family whose graph is compared once the file that is returned is there, and a forest of that kind."""
    go, info = folder / "go", folder / "late-1.0.dist-info"
    (folder / "late.py").write_text(LATE.format(go=str(go), then=then, most_s=LATE_S))
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hftcl.families]\nlate = late:Late\nlate_forest = late:LateForest\n")
    return go


def test_a_graph_is_given_while_it_is_still_compared_and_is_that_of_the_whole_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Trained
) -> None:
    go = late_family(tmp_path, "return fitted")
    monkeypatch.syspath_prepend(tmp_path)
    with TrainingPool() as pool:
        with pool.begin(replace(quick(), family="late")) as begun:
            assert (begun.onnx, begun.threshold) == (trained.onnx, trained.threshold)
            assert not go.exists()
            go.touch()
            whole = begun.finish()
        assert len(find_trainers(os.getpid())) == 1, "its process is kept"
    assert (whole.onnx, whole.threshold, whole.params) == (begun.onnx, begun.threshold, begun.params)
    assert joblib.load(io.BytesIO(whole.pkl)).predict(quick().X).shape == (len(quick().X),)


def test_the_graph_of_a_forest_is_given_before_it_is_compared_with_the_forest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = late_family(tmp_path, "return fitted")
    monkeypatch.syspath_prepend(tmp_path)
    with TrainingPool() as pool, pool.begin(task(family="late_forest")) as begun:
        go.touch()
        whole = begun.finish()
    assert (whole.onnx, whole.importances is None) == (begun.onnx, False)


def test_what_is_wrong_with_a_graph_is_told_at_the_end_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = late_family(tmp_path, 'raise TrainingError("predicts otherwise")')
    monkeypatch.syspath_prepend(tmp_path)
    with TrainingPool() as pool, pool.begin(replace(quick(), family="late")) as begun:
        go.touch()
        with pytest.raises(TrainingError, match="gave up: predicts otherwise"):
            begun.finish()


def test_a_training_that_is_left_before_its_end_is_ended_and_the_next_one_hears_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Trained
) -> None:
    late_family(tmp_path, "return fitted")
    monkeypatch.syspath_prepend(tmp_path)
    before = count_epolls()
    with TrainingPool() as pool:
        with pool.begin(replace(quick(), family="late")) as begun:
            (left,) = find_trainers(os.getpid())
        assert count_epolls() == before, f"what waits for the process is closed, though the caller keeps {begun}"
        again = pool.train(quick(), timeout_s=LATE_S)
        assert left not in find_trainers(os.getpid())
    assert (again.onnx, again.threshold) == (trained.onnx, trained.threshold)
    assert find_trainers(os.getpid()) == []


def test_the_time_that_the_caller_takes_is_not_that_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = late_family(tmp_path, "return fitted")
    monkeypatch.syspath_prepend(tmp_path)
    with TrainingPool() as pool, pool.begin(replace(quick(), family="late"), deadline=Deadline(60)) as begun:
        go.touch()
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 120)
        assert begun.finish().onnx == begun.onnx


def test_a_training_process_looks_for_garbage_but_not_in_the_libraries_that_it_has_loaded() -> None:
    code = (
        "import gc; from hftcl.model.trainer import _prepare; _prepare('ridge'); kept = gc.get_freeze_count(); "
        "_prepare('ridge'); print(gc.isenabled(), kept > 10_000, gc.get_freeze_count() <= kept)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]


def test_what_a_training_left_is_looked_at_though_the_libraries_of_a_second_family_were_loaded_after_it() -> None:
    code = (
        "import gc, weakref; from hftcl.model.trainer import _prepare; _prepare('ridge')\n"
        "class Left: pass\n"
        "left = Left(); left.itself = left; seen = weakref.ref(left); del left\n"
        "_prepare('lightgbm'); gc.collect(); print(seen() is None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


def test_a_training_goes_on_to_its_end_where_the_pool_is_closed_in_the_middle_and_leaves_nothing(
    trained: Trained,
) -> None:
    closed = threading.Event()

    def wait(_: object) -> None:
        assert closed.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as other:
        with TrainingPool() as pool:
            middle = other.submit(pool.train, quick(), wait)
            wait_until(lambda: find_trainers(os.getpid()), "a training")
        closed.set()
        assert middle.result().onnx == trained.onnx
        assert other.submit(pool.train, quick()).result().onnx == trained.onnx, "the next of the thread's own"
    wait_until(lambda: not find_trainers(os.getpid()), "the end of its processes")


def test_a_process_outlives_the_thread_that_it_first_trained_for() -> None:
    with TrainingPool() as pool:
        with ThreadPoolExecutor(1) as other:
            other.submit(pool.train, quick()).result()
        (child,) = find_trainers(os.getpid())
        for _ in range(3):
            pool.train(quick())
        assert find_trainers(os.getpid()) == [child]
    wait_until_ended(child)


def test_a_pool_goes_on_with_another_process_where_one_was_killed_or_failed(trained: Trained) -> None:
    def leave(event: Event) -> None:
        raise LookupError("enough")

    with TrainingPool() as pool:
        pool.prepare("ridge")
        (prepared,) = find_trainers(os.getpid())
        os.kill(prepared, signal.SIGKILL)
        wait_until_ended(prepared)
        assert pool.train(quick()).onnx == trained.onnx
        with pytest.raises(LookupError, match="enough"):
            pool.train(quick(), leave)
        assert find_trainers(os.getpid()) == []
        assert pool.train(quick()).onnx == trained.onnx


def test_two_threads_train_in_two_processes_of_one_pool(trained: Trained) -> None:
    with TrainingPool() as pool, ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(pool.train, quick()) for _ in range(3)]:
            assert done.result().onnx == trained.onnx
        assert len(find_trainers(os.getpid())) == 2


def test_a_family_that_cannot_be_prepared_is_told_by_the_training() -> None:
    with TrainingPool() as pool:
        pool.prepare("no_such_family")
        with pytest.raises(ConfigError, match="No model family 'no_such_family'"):
            pool.train(task(family="no_such_family"))


def test_a_running_event_loop_is_no_hindrance(trained: Trained) -> None:
    async def notebook_cell() -> float:
        return train(quick()).threshold

    assert asyncio.run(notebook_cell()) == trained.threshold


@pytest.mark.parametrize(
    ("how", "family", "params"),
    [("stdin", "ridge", {}), ("script without a main guard", "forest", PARAMS)],
    ids=["stdin", "script without a main guard"],
)
def test_training_works_from_anywhere_without_a_word_on_stderr(
    tmp_path: Path, how: str, family: str, params: dict[str, Any]
) -> None:
    script = SCRIPT.format(family=family, params=params)
    (tmp_path / "script.py").write_text(script)
    (tmp_path / "joblib.py").write_text("raise SystemExit('the child took a joblib that is not joblib')")
    done = subprocess.run(
        [sys.executable, "-" if how == "stdin" else "script.py"],
        input=script if how == "stdin" else None,
        cwd=tmp_path,
        env=environment(PYTHONWARNINGS="error"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("DONE")
    assert set(done.stdout.splitlines()[:-1]) == {"FIT"}
