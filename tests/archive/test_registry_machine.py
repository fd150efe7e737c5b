"""Any order of adding, deploying, rolling back, pruning, recovering and damage by hand, against a second registry."""

import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hftcl.archive.records import Outcome
from hftcl.errors import HftclError, IntegrityError, NotPromotedError, PinnedError, RollbackError, UsageError
from tests.archive.sample_models import T0, added, archive_in, hash_only, onnx_bytes

PICK = st.integers(0, 30)
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - thousands of fsyncs would take minutes


class ArchiveMachine(RuleBasedStateMachine):
    """The second implementation: a dictionary of parents, one name that serves, one flag."""

    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="hftcl-machine-", dir=IN_MEMORY))
        self.archive = archive_in(self.home)
        self.clock = T0
        self.outcomes: dict[str, Outcome] = {}
        self.parents: dict[str, str | None] = {}
        self.serving: str | None = None
        self.is_pinned = False
        self.whole: set[str] = set()
        self.damaged = False

    def teardown(self) -> None:
        if hasattr(self, "home"):
            shutil.rmtree(self.home)

    def now(self) -> datetime:
        self.clock += timedelta(minutes=1)
        return self.clock

    def switched_to(self, model_id: str) -> None:
        self.parents.setdefault(model_id, self.serving)
        self.serving = model_id

    def mended(self) -> None:
        """Every change begins with recovery, so nothing of the damage is left for it."""
        self.damaged = False
        if self.serving:
            self.whole.add(self.serving)

    def stands_on(self) -> set[str]:
        line, each = set(), self.serving
        while each:
            line.add(each)
            each = self.parents[each]
        return line

    @rule(outcome=st.sampled_from(["deployed", "rejected", "inconclusive"]))
    def add(self, outcome: Outcome) -> None:
        self.mended()
        model_id = added(self.archive, self.now(), outcome).model_id
        assert model_id not in self.outcomes
        self.outcomes[model_id] = outcome
        self.whole.add(model_id)

    @precondition(lambda self: self.outcomes)
    @rule(pick=PICK)
    def deploy(self, pick: int) -> None:
        self.mended()
        model_id = sorted(self.outcomes)[pick % len(self.outcomes)]
        expected: type[HftclError] | None = None
        if self.is_pinned:
            expected = PinnedError
        elif self.outcomes[model_id] != "deployed":
            expected = NotPromotedError
        elif model_id == self.serving:
            expected = UsageError
        elif model_id not in self.whole:
            expected = IntegrityError
        if expected is None:
            self.archive.deploy(model_id, now=self.now(), reason="better", champion=self.serving)
            self.switched_to(model_id)
        else:
            with pytest.raises(expected):
                self.archive.deploy(model_id, now=self.now(), reason="better")

    @rule()
    def roll_back(self) -> None:
        self.mended()
        target = self.parents.get(self.serving) if self.serving else None
        if target in self.whole:
            assert target is not None
            assert self.archive.rollback(now=self.now()).replaced == self.serving
            self.switched_to(target)
            self.is_pinned = True
        else:
            with pytest.raises(RollbackError if target is None else IntegrityError):
                self.archive.rollback(now=self.now())

    @precondition(lambda self: self.outcomes)
    @rule(pick=PICK)
    def roll_back_to(self, pick: int) -> None:
        self.mended()
        model_id = sorted(self.outcomes)[pick % len(self.outcomes)]
        if model_id == self.serving:
            with pytest.raises(RollbackError):
                self.archive.rollback(model_id, now=self.now(), reason="why not")
        elif model_id not in self.whole:
            with pytest.raises(IntegrityError):
                self.archive.rollback(model_id, now=self.now(), reason="why not")
        else:
            self.archive.rollback(model_id, now=self.now(), reason="why not")
            self.switched_to(model_id)
            self.is_pinned = True

    @rule()
    def unpin(self) -> None:
        self.mended()
        assert (self.archive.unpin(now=self.now()) is not None) is self.is_pinned
        self.is_pinned = False

    @rule(keep=st.integers(0, 4))
    def prune(self, keep: int) -> None:
        self.mended()
        gone = set(self.archive.prune(keep, now=self.now()))
        kept = set(sorted(self.outcomes, reverse=True)[:keep]) | self.stands_on()
        assert gone.isdisjoint(kept)
        assert self.whole - gone <= kept
        self.whole -= gone

    @rule()
    def recover(self) -> None:
        notes = self.archive.recover(self.now())
        assert bool(notes) or not self.damaged
        self.mended()

    @precondition(lambda self: self.serving and self.serving in self.whole)
    @rule(how=st.sampled_from(["garbage", "deleted", "empty"]))
    def damage_production(self, how: str) -> None:
        if how == "deleted":
            self.archive.production.unlink(missing_ok=True)
        else:
            self.archive.production.write_bytes(b"garbage" if how == "garbage" else b"")
        self.damaged = True

    @precondition(lambda self: self.serving and not self.damaged)
    @rule()
    def rot_the_archived_file_of_the_serving_model(self) -> None:
        assert self.serving is not None
        self.archive.locate_onnx(self.serving).write_bytes(b"rot")
        self.whole.discard(self.serving)
        self.damaged = True

    @precondition(lambda self: self.outcomes)
    @rule(how=st.sampled_from(["deleted", "edited"]))
    def damage_the_csv(self, how: str) -> None:
        if how == "deleted":
            self.archive.csv.unlink(missing_ok=True)
        else:
            self.archive.csv.write_text("model_id\n=cmd\n")
        self.damaged = True

    @rule()
    def leave_temporary_files(self) -> None:
        (self.home / ".trained_stock_model.onnx.x.tmp").write_bytes(b"half")

    @precondition(lambda self: self.outcomes)
    @rule(pick=PICK)
    def copy_an_archived_model_over_production(self, pick: int) -> None:
        self.archive.recover(self.now())
        self.mended()
        model_id = sorted(self.outcomes)[pick % len(self.outcomes)]
        self.archive.production.write_bytes(onnx_bytes(model_id))
        if model_id != self.serving:
            self.switched_to(model_id)
            self.damaged = True
            self.archive.recover(self.now())
        self.mended()

    @invariant()
    def what_is_read_is_what_was_done(self) -> None:
        if not hasattr(self, "archive"):
            return
        records = {each.model_id: each for each in self.archive.list_models()}
        assert set(records) == set(self.outcomes)
        assert {each: record.parent for each, record in records.items() if record.served} == self.parents
        assert (self.archive.find_pin() is not None) is self.is_pinned
        assert [each for each, record in records.items() if record.served and record.served[-1][1] is None] == (
            [self.serving] if self.serving else []
        )
        if not self.damaged:
            live = self.archive.find_live()
            assert (live.model_id if live else None) == self.serving
            if live:
                hash_only(self.archive.production, live.sha256)
                pkl = self.archive.locate_pkl(live.model_id)
                assert not pkl.exists() or self.archive.production_pkl.read_bytes() == pkl.read_bytes()
            assert {each for each, record in records.items() if record.kept} == self.whole


def bounded(examples: int, steps: int) -> settings:
    return settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.hazard(8)
def test_any_order_of_changes_and_damage_leaves_the_model_that_was_chosen() -> None:
    run_state_machine_as_test(ArchiveMachine, settings=bounded(8, 25))


@pytest.mark.slow
@pytest.mark.hazard(8)
def test_any_long_order_of_changes_and_damage_leaves_the_model_that_was_chosen() -> None:
    run_state_machine_as_test(ArchiveMachine, settings=bounded(400, 50))
