"""What is due: clock changes in every zone, downtime, clocks that are put, two jobs that meet. Pure, so simulated."""

import random
import zoneinfo
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl.config.times import parse
from hftcl.schedule.claims import OccurrenceRecord
from hftcl.schedule.rules import FIRST_GRACE, Job, Occurrence, TimesRule, find_due, list_upcoming, resolve
from tests.schedule.schedule_cases import NEW_YORK, START, all_jobs, daily_and_weekly, row

BEGIN, END = datetime(2010, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WALLS = st.datetimes(datetime(2010, 1, 2), datetime(2029, 12, 30))  # noqa: DTZ001 - what clocks on walls show
SAMPLE = (
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Beirut",
)


def local(text: str, zone: ZoneInfo = NEW_YORK) -> datetime:
    """Return the moment (UTC) of a local time with its offset, or of one that is not in doubt."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def changes(zone: ZoneInfo) -> tuple[tuple[datetime, object, object], ...]:
    """Return each change of the offset in the twenty years: the first minute after it, the offsets before and after."""
    found = []
    at = BEGIN
    while at < END:
        after = at + timedelta(days=5)  # no zone goes there and back in five days
        before, now = at.astimezone(zone).utcoffset(), after.astimezone(zone).utcoffset()
        low, high = at, after
        while before != now and high - low > MINUTE:
            middle = low + (high - low) // 2 // MINUTE * MINUTE
            low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
        if before != now:
            found.append((high, before, now))
        at = after
    return tuple(found)


def zones_in_which_clocks_change() -> dict[str, list[str]]:
    """Return one zone of each behaviour in the twenty years, with all that behave alike."""
    alike: dict[object, list[str]] = {}
    for name in sorted(zoneinfo.available_timezones()):
        if found := changes(ZoneInfo(name)):
            alike.setdefault(found, []).append(name)
    return {names[0]: names for names in alike.values()}


def played(zone: ZoneInfo) -> Iterator[tuple[datetime, Occurrence]]:
    """Yield what a scheduler does that wakes up whenever something is due, from BEGIN to END, and when."""
    rules = daily_and_weekly(zone)
    rows: list[OccurrenceRecord] = []
    now = BEGIN
    while now < END:
        for occurrence in find_due(rules, now, rows).run:
            yield now, occurrence
            rows = [*rows[-8:], row(occurrence, at=now)]  # it knows less than the registry would tell it
        now = next(list_upcoming(rules, now, rows)).due_at


def assert_none_missed_none_doubled(zone: ZoneInfo) -> int:
    """Compare with every minute of each day that exists, by the zone's own arithmetic; return how many there were."""
    ran: Counter[tuple[str, date]] = Counter()
    for now, occurrence in played(zone):
        ran[occurrence.job, occurrence.local_date] += 1
        wall = now.astimezone(zone)
        wanted = time(2) if occurrence.job is Job.CHECK else time(1)
        if (wall.date(), wall.time()) != (occurrence.local_date, wanted):
            # left out: the clock jumped over it within the minute before, so this is the first minute after it
            earlier = (now - MINUTE).astimezone(zone).replace(tzinfo=None)
            assert earlier < datetime.combine(occurrence.local_date, wanted) <= wall.replace(tzinfo=None)
        else:
            assert wall.fold == 0, "of two equal hours the first"
    days = [BEGIN.astimezone(zone).date() + timedelta(days=n) for n in range((END - BEGIN).days + 2)]
    wanted_ids = {(Job.CHECK, day) for day in days} | {(Job.RETRAIN, day) for day in days if day.weekday() == 6}
    margin = {days[0], days[1], days[-1], days[-2], days[-3]}
    assert {each for each in wanted_ids if each[1] not in margin} <= set(ran), "none is missed"
    assert set(ran) <= wanted_ids
    assert set(ran.values()) == {1}, "none is doubled"
    return sum(ran.values())


@pytest.mark.hazard(40)
@pytest.mark.hazard(41)
@pytest.mark.parametrize("name", SAMPLE)
def test_in_twenty_years_no_job_is_missed_or_doubled(name: str) -> None:
    assert assert_none_missed_none_doubled(ZoneInfo(name)) > 8300


@pytest.mark.slow
@pytest.mark.hazard(40)
@pytest.mark.hazard(41)
def test_in_twenty_years_no_job_is_missed_or_doubled_in_any_zone_where_clocks_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    zones = zones_in_which_clocks_change()
    count = sum(assert_none_missed_none_doubled(ZoneInfo(name)) for name in zones)
    named = sum(len(names) for names in zones.values())
    with capsys.disabled():
        print(f"\n{named} zones of {len(zones)} behaviours, {count} occurrences: 0 missed, 0 doubled")  # noqa: T201
    assert named > 200


@pytest.mark.hazard(40)
def test_in_spring_a_job_in_the_hour_that_is_left_out_runs_at_the_next_minute_that_exists() -> None:
    rule = TimesRule(Job.CHECK, parse("02:30"), NEW_YORK)
    (found,) = islice(rule.iterate_after(local("2026-03-07T12:00")), 1)
    assert found.due_at == local("2026-03-08T03:00-04:00")
    assert found.local_date == date(2026, 3, 8)
    assert found.note == "02:30 does not exist on this day: the next minute that does"


@pytest.mark.hazard(41)
def test_in_autumn_a_job_in_the_hour_that_comes_twice_runs_in_the_first_also_after_a_restart_between() -> None:
    rules = daily_and_weekly()
    first, second = local("2026-11-01T01:00-04:00"), local("2026-11-01T01:00-05:00")
    before = [row(each, at=START) for each in islice(list_upcoming(rules, START, ()), 400) if each.due_at < first]
    (occurrence,) = find_due(rules, first, before).run
    assert (occurrence.job, occurrence.due_at) == (Job.RETRAIN, first)
    assert occurrence.note == "01:00 comes twice on this day: the first"
    claimed = [*before, row(occurrence, at=first)]
    assert find_due(rules, second, claimed).run == (), "a scheduler that starts between knows only the registry"


def test_a_day_that_a_zone_leaves_out_has_its_job_at_the_beginning_of_the_next() -> None:
    apia = ZoneInfo("Pacific/Apia")  # went from 29 to 31 December 2011
    found = islice(TimesRule(Job.CHECK, parse("02:00"), apia).iterate_after(local("2011-12-29T12:00-10:00")), 2)
    assert [(each.local_date, each.due_at) for each in found] == [
        (date(2011, 12, 30), local("2011-12-31T00:00+14:00")),
        (date(2011, 12, 31), local("2011-12-31T02:00+14:00")),
    ]


@given(
    zone=st.sampled_from(SAMPLE).map(ZoneInfo),
    start=WALLS,
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    days=st.sampled_from(["* * *", "* * SUN", "1,15 * *", "* */2 MON-FRI", "L * *", "* * FRI#2", "13 * FRI"]),
)
@settings(max_examples=60)
def test_times_are_those_of_cronsim_which_follows_debian(
    zone: ZoneInfo, start: datetime, hour: int, minute: int, days: str
) -> None:
    cron = f"{minute} {hour} {days}" if len(days.split()) == 3 else f"{minute} {hour} {days} *"
    begin = start.replace(microsecond=0, tzinfo=zone).astimezone(UTC)
    ours = [each.due_at for each in islice(TimesRule(Job.CHECK, parse(cron), zone).iterate_after(begin), 40)]
    theirs = [each.astimezone(UTC) for each in islice(CronSim(cron, begin.astimezone(zone)), 40)]
    # begun inside a repeated or left-out hour, cronsim counts from the wall clock; that first one aside they are equal
    assert ours[1:-1] == [each for each in theirs if each > ours[0]][: len(ours) - 2]


@given(zone=st.sampled_from(SAMPLE).map(ZoneInfo), wall=WALLS)
@settings(max_examples=200)
def test_a_wall_time_is_resolved_to_the_first_minute_that_shows_it_or_a_later_one(
    zone: ZoneInfo, wall: datetime
) -> None:
    wall = wall.replace(second=0, microsecond=0)
    found, note = resolve(wall, zone)
    shown = found.astimezone(zone).replace(tzinfo=None)
    assert shown >= wall
    assert (shown == wall) == ("does not exist" not in note)
    hours = [found - n * timedelta(minutes=30) for n in range(1, 7)]
    assert all(each.astimezone(zone).replace(tzinfo=None) != wall for each in hours), "none earlier shows it"
    assert (found - MINUTE).astimezone(zone).replace(tzinfo=None) < wall


# --- downtime, the first start, jobs that meet ------------------------------------------------------------------------


def accounted_until(moment: datetime) -> list[OccurrenceRecord]:
    """Return what a scheduler has done that ran for a month before `moment`."""
    begin = moment - timedelta(days=30)
    coming = list_upcoming(all_jobs(), begin, ())
    return [row(each, at=each.due_at) for each in islice(coming, 200) if each.due_at <= moment]


@pytest.mark.hazard(42)
def test_after_downtime_the_newest_of_each_job_runs_once_and_the_older_ones_are_missed() -> None:
    asleep, awake = local("2026-01-08T12:00"), local("2026-01-20T12:00")
    found = find_due(all_jobs(), awake, accounted_until(asleep))
    assert [(each.job, str(each.local_date)) for each in found.run] == [
        ("retrain", "2026-01-18"),
        ("digest", "2026-01-18"),
        ("collect", "2026-01-19"),
        ("check", "2026-01-20"),
    ]
    missed = Counter(each.job for each, _ in found.missed)
    assert missed == {"check": 11, "retrain": 1, "collect": 7, "digest": 1}
    assert "2026-01-20 runs instead" in next(why for each, why in found.missed if each.job is Job.CHECK)
    assert found.skipped == ()
    told = [row(each, at=awake) for each in found.run] + [row(each, "missed", at=awake) for each, _ in found.missed]
    after = find_due(all_jobs(), awake + MINUTE, [*accounted_until(asleep), *told])
    assert (after.run, after.missed, after.skipped) == ((), (), ())


def test_what_lies_before_the_first_start_is_not_made_up_for_but_the_last_hour_is() -> None:
    rules = daily_and_weekly()
    noon = find_due(rules, START, ())
    assert noon.run == ()
    assert [(each.job, str(each.local_date)) for each, _ in noon.before] == [
        ("retrain", "2026-01-04"),
        ("check", "2026-01-07"),
    ]
    at_five_past = local("2026-01-08T02:05")
    assert [each.job for each in find_due(rules, at_five_past, ()).run] == [Job.CHECK]
    assert find_due(rules, local("2026-01-08T02:00") + FIRST_GRACE, ()).run == ()
    baseline = [row(each, "skipped", at=START) for each, _ in noon.before]
    assert [each.job for each in find_due(rules, local("2026-01-09T02:00"), baseline).run] == [Job.CHECK]
    assert [str(each.local_date) for each, _ in find_due(rules, local("2026-01-09T02:00"), baseline).missed] == [
        "2026-01-08"
    ]


@pytest.mark.hazard(44)
def test_a_check_that_comes_due_while_the_retrain_runs_is_skipped_whether_that_has_ended_or_not() -> None:
    rules = daily_and_weekly()
    one, two = local("2026-01-11T01:00"), local("2026-01-11T02:00")
    before = accounted_until(one - MINUTE)
    (retrain,) = find_due(rules, one, before).run
    for claimed in (row(retrain, "claimed", at=one), row(retrain, at=one, until=two + timedelta(minutes=30))):
        found = find_due(rules, two + timedelta(minutes=31), [*before, claimed])
        assert found.run == ()
        ((check, why),) = found.skipped
        assert (check.job, str(check.local_date)) == ("check", "2026-01-11")
        assert why == "the retrain of 2026-01-11 was still running"
    jumped = row(retrain, at=one, until=two + timedelta(days=3653))
    later = local("2026-01-13T02:00")
    assert [each.job for each in find_due(rules, later, [*before, jumped]).run] == [Job.CHECK], (
        "the clock was put in it"
    )
    quick = row(retrain, at=one, until=one + timedelta(minutes=20))
    assert [each.job for each in find_due(rules, two, [*before, quick]).run] == [Job.CHECK]


def test_after_downtime_over_both_the_retrain_goes_first_and_the_check_runs_too() -> None:
    rules = daily_and_weekly()
    before = accounted_until(local("2026-01-10T12:00"))
    noon = local("2026-01-11T12:00")
    found = find_due(rules, noon, before)
    assert [each.job for each in found.run] == [Job.RETRAIN, Job.CHECK]
    done = row(found.run[0], at=noon, until=noon + timedelta(minutes=10))
    later = find_due(rules, noon + timedelta(minutes=11), [*before, done])
    assert ([each.job for each in later.run], later.skipped) == ([Job.CHECK], ())


def test_a_job_moved_to_a_later_hour_does_not_run_twice_on_that_day() -> None:
    early, late = daily_and_weekly(check="02:00"), daily_and_weekly(check="18:00")
    two = local("2026-01-08T02:00")
    rows = accounted_until(two)
    assert find_due(late, local("2026-01-08T18:00"), rows).run == ()
    assert [str(each.local_date) for each in find_due(late, local("2026-01-09T18:00"), rows).run] == ["2026-01-09"]
    assert find_due(early, two, rows).run == ()


def test_what_comes_is_told_in_order_and_without_what_is_claimed() -> None:
    coming = list(islice(list_upcoming(all_jobs(), START, ()), 12))
    assert all(a.due_at <= b.due_at for a, b in pairwise(coming))
    claimed = [row(coming[0], "claimed", at=START)]
    assert list(islice(list_upcoming(all_jobs(), START, claimed), 11)) == coming[1:]


# --- clocks that are put ----------------------------------------------------------------------------------------------


def steps() -> st.SearchStrategy[timedelta]:
    """Return steps of a clock: a second, a minute, an hour, a day, a month or ten years, forward or back."""
    spans = [timedelta(seconds=1), MINUTE, timedelta(hours=1), timedelta(days=1), timedelta(days=30)]
    spans.append(timedelta(days=3653))
    return st.builds(
        lambda span, sign, share: sign * share * span,
        st.sampled_from(spans),
        st.sampled_from([-1, 1]),
        st.floats(0.2, 1),
    )


@pytest.mark.hazard(43)
@given(moves=st.lists(st.tuples(st.floats(0.01, 40), steps()), max_size=6), seed=st.integers(0, 2**16))
@settings(max_examples=30)
def test_wherever_the_clock_is_put_nothing_is_claimed_twice_and_afterwards_all_goes_on(
    moves: list[tuple[float, timedelta]], seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    rules = daily_and_weekly()
    true, offset = START, timedelta()
    rows: dict[tuple[str, date], OccurrenceRecord] = {}
    ran: Counter[tuple[str, date]] = Counter()

    def work() -> None:
        now = true + offset
        for _ in range(2):  # what was decided is looked at again at once, as the loop does
            found = find_due(rules, now, rows.values())
            for occurrence, state in (
                *((each, "missed") for each, _ in found.missed),
                *((each, "skipped") for each, _ in (*found.skipped, *found.before)),
                *((each, "done") for each in found.run),
            ):
                key = (str(occurrence.job), occurrence.local_date)
                before = rows.get(key)  # as in the registry, what was passed over at a time to come is replaced
                ahead = before is not None and before.state in {"missed", "skipped"} and before.claimed_at > now
                assert before is None or ahead, f"{key} is accounted for already"
                rows[key] = row(occurrence, state, at=now)  # type: ignore[arg-type]
                ran[key] += state == "done"
                assert occurrence.due_at <= now

    work()
    for days, step in moves:
        for _ in range(int(days * 2) + 1):
            true += timedelta(hours=chance.uniform(1, 20))
            work()
        offset += step
        work()
    offset = timedelta()
    for _ in range(60):  # a whole day may hold two: in spring one is 23 hours long
        true += timedelta(hours=12)
        work()
    assert max(ran.values(), default=0) <= 1
    month = [rows.get(("check", (true - timedelta(days=n)).astimezone(NEW_YORK).date())) for n in range(1, 29)]
    assert [each and each.state for each in month] == ["done"] * 28, "with the right time again, no day is left out"
