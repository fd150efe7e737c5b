# ruff: noqa: E501 - a table: one way of writing a row
"""Sixty ways in which vendors and tools write the same bars, each with what must come of it. Values are made up."""

import bz2
import gzip
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.sessions import Calendar

FIRST, LAST = date(2026, 6, 15), date(2026, 6, 19)
DAYS = ("AAPL", "AMD")


@cache
def market(ticker: str, *, first: date = date(2026, 6, 8), last: date = LAST) -> pl.DataFrame:
    """Minute bars of whole regular sessions as RAW_SCHEMA: a walk of prices in cents, busiest at open and close."""
    rng = np.random.default_rng(sum(ticker.encode()))
    frames = []
    price = 100.0 + 50 * rng.random()
    for session in Calendar("XNYS").list_sessions(first, last).iter_rows(named=True):
        count = int((session["close"] - session["open"]).total_seconds() // 60)
        steps = rng.normal(0, 0.05, count).cumsum()
        close = np.round(price + steps, 2)
        opens = np.round(np.concatenate([[price], close[:-1]]) + rng.normal(0, 0.01, count), 2)
        high = np.round(np.maximum(opens, close) + 0.03, 2)
        low = np.round(np.minimum(opens, close) - 0.03, 2)
        minute = np.arange(count)
        shape = 1 + 30 * np.exp(-minute / 3) + 5 * np.exp(-(count - 1 - minute) / 5)
        volume = np.floor(1000 * shape * (0.8 + 0.4 * rng.random(count))) + 1
        price = float(close[-1])
        stamps = [session["open"] + timedelta(minutes=int(m)) for m in minute]
        frames.append(
            pl.DataFrame(
                {"ticker": ticker, "ts": stamps, "open": opens, "high": high, "low": low, "close": close,
                 "volume": volume}, schema=RAW_SCHEMA,
            )
        )  # fmt: skip
    return pl.concat(frames)


@dataclass(frozen=True)
class Case:
    """A way of writing. `refused`: a part of the message where it must be refused; else every bar must come back."""

    name: str
    write: Callable[[Path], None]
    files: dict[str, Any] = field(default_factory=dict)
    tickers: tuple[str, ...] = ("AAPL",)
    refused: str = ""
    calendar: str = "XNYS"
    rename: dict[str, str] = field(default_factory=dict)


@cache
def rows(
    ticker: str = "AAPL", zone: str = "America/New_York", form: str = "%Y-%m-%d %H:%M:%S", shift: int = 0
) -> list[dict[str, Any]]:
    """Return the bars with `at`, the stamp as text in `zone`, `shift` minutes later."""
    stamp = (pl.col("ts").dt.offset_by(f"{shift}m")).dt.convert_time_zone(zone)
    frame = market(ticker).with_columns(stamp.dt.strftime(form).alias("at"), stamp.alias("local"))
    return frame.to_dicts()


def text(
    lines: list[str] | Callable[[], list[str]],
    name: str = "AAPL.csv",
    pack: Callable[[bytes], bytes] = lambda data: data,
    encoding: str = "utf-8",
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written = lines() if callable(lines) else lines  # by a function where that takes long: each process collects
        path.write_bytes(pack(("\n".join(written) + "\n").encode(encoding)))

    return write


def plain(
    header: str = "ts,open,high,low,close,volume", form: str = "%Y-%m-%dT%H:%M:%SZ", zone: str = "UTC", **how: Any
) -> Callable[[Path], None]:
    shift = how.pop("shift", 0)
    separator = how.pop("separator", ",")
    cell = how.pop("cell", lambda value: f"{value:g}" if value == int(value) else f"{value:.2f}")

    def lines() -> list[str]:
        body = [
            separator.join(
                [row["at"], *(cell(row[name]) for name in ("open", "high", "low", "close")), f"{row['volume']:.0f}"]
            )
            for row in rows(zone=zone, form=form, shift=shift)
        ]
        return [*([header] if header else []), *body]

    return text(lines, **how)


def epoch(
    factor: int, header: str = "ts,open,high,low,close,volume", name: str = "AAPL.csv", extra: str = ""
) -> Callable[[Path], None]:

    def lines() -> list[str]:
        body = [
            f"{int(row['ts'].timestamp()) * factor},{row['open']},{row['high']},{row['low']},{row['close']},{row['volume']}{extra}"
            for row in rows()
        ]
        return [*([header] if header else []), *body]

    return text(lines, name=name)


def both(header: str, line: Callable[[dict[str, Any]], str], name: str) -> Callable[[Path], None]:
    """Rows of two tickers, minute by minute."""
    return text(
        lambda: [header, *(line(row) for pair in zip(rows("AAPL"), rows("AMD"), strict=True) for row in pair)],
        name=name,
    )


def parquet(change: Callable[[pl.DataFrame], pl.DataFrame], name: str = "AAPL.parquet") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        change(market("AAPL").drop("ticker")).write_parquet(path)

    return write


def arrow_zone(zone: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = market("AAPL").drop("ticker").to_arrow()
        stamps = table.column("ts").cast(pa.int64()).cast(pa.timestamp("us", zone))
        pq.write_table(table.set_column(0, "ts", stamps), folder / "AAPL.parquet")

    return write


def thinkorswim(key: str) -> Callable[[Path], None]:
    """Write the exported report of a strategy that trades on every bar and names its orders after it."""

    def list_lines() -> list[str]:
        lines = ["Strategy report", "Symbol: AAPL", "Work Time: 6/8/26 9:30 AM - 6/19/26 3:59 PM", "", "",
                 "Id;Strategy;Side;Amount;Price;Date/Time;Trade P/L;P/L;Position;"]  # fmt: skip
        for n, row in enumerate(rows()):
            values = {"S": "AAPL", "P": 1.0, **{c: row[name] for c, name in zip("OHLCV", _COLUMNS, strict=True)}}
            bar = "|".join([key, *(f"{values[letter]}" for letter in key)])
            at = f"{row['local']:%-m/%-d/%y %-I:%M %p}"
            lines += [f"{2 * n + 1};kg_EveryTick({bar});Buy to Open;1.0;${row['open']};{at};;($0.13);1.0;",
                      f"{2 * n + 2};kg_EveryTick;Sell to Close;-1.0;${row['close']};{at};$0.04;($0.09);0.0;"]  # fmt: skip
        lines += ["", "Max trade P/L: $0.91; Total P/L: ($3.10); Total order(s): 200;"]
        return lines

    return text(list_lines, name="StrategyReports_AAPL_61926.csv")


_COLUMNS = ("open", "high", "low", "close", "volume")


def yfinance(*, grouped: bool) -> Callable[[Path], None]:
    prices = ("Open", "High", "Low", "Close", "Volume")
    pairs = [(p, t) for t in DAYS for p in prices] if grouped else [(p, t) for p in prices for t in DAYS]
    first, second = [p for p, _ in pairs], [t for _, t in pairs]
    one = f"Ticker,{','.join(second)}" if grouped else f"Price,{','.join(first)}"
    two = f"Price,{','.join(first)}" if grouped else f"Ticker,{','.join(second)}"
    lines = [one, two, "Datetime" + "," * len(pairs)]
    for apple, amd in zip(rows("AAPL"), rows("AMD"), strict=True):
        of = {"AAPL": apple, "AMD": amd}
        stamp = apple["ts"].strftime("%Y-%m-%d %H:%M:%S+00:00")
        lines.append(",".join([stamp, *(f"{of[t][p.lower()]}" for p, t in pairs)]))
    return text(lines, name="AAPL_AMD_1m.csv")


def two_tables(folder: Path) -> None:
    with zipfile.ZipFile(folder / "AAPL.zip", "w") as archive:
        archive.writestr("AAPL.txt", "1\n")
        archive.writestr("AMD.txt", "1\n")


def zipped(name: str, inner: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        plain()(folder)
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.write(folder / "AAPL.csv", inner)
        (folder / "AAPL.csv").unlink()

    return write


def _zstd_frame(data: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


def two_classes(folder: Path) -> None:
    for ticker, name in (("AAPL", "BRK_A"), ("AMD", "BRK_B")):
        market(ticker).drop("ticker").write_parquet(folder / f"{name}.parquet")


def lean(folder: Path) -> None:
    for day, bars in market("AAPL").group_by(pl.col("ts").dt.convert_time_zone("America/New_York").dt.date()):
        target = folder / "equity" / "usa" / "minute" / "aapl" / f"{day[0]:%Y%m%d}_trade.zip"
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for row in bars.sort("ts").with_columns(local=pl.col("ts").dt.convert_time_zone("America/New_York")).to_dicts():
            since = row["local"].hour * 3_600_000 + row["local"].minute * 60_000
            prices = ",".join(str(round(row[p] * 10_000)) for p in ("open", "high", "low", "close"))
            lines.append(f"{since},{prices},{row['volume']:.0f}")
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr(f"{day[0]:%Y%m%d}_aapl_minute_trade.csv", "\n".join(lines) + "\n")


def bundle(*, minutes: int, beside: bool) -> Callable[[Path], None]:
    """Bars of several minutes, alone or beside those of one."""

    def write(folder: Path) -> None:
        if beside:
            market("AAPL").drop("ticker").write_parquet(folder / "AAPL_full_1min.parquet")
        longer = market("AAPL").group_by_dynamic("ts", every=f"{minutes}m").agg(
            pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(),
            pl.col("volume").sum(),
        )  # fmt: skip
        longer.write_parquet(folder / f"AAPL_full_{minutes}min.parquet")

    return write


def two_files(
    change: Callable[[pl.DataFrame], pl.DataFrame], one: str = "AAPL_a.parquet", other: str = "AAPL_b.parquet"
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        bars = market("AAPL").drop("ticker")
        bars.write_parquet(folder / one)
        change(bars).write_parquet(folder / other)

    return write


def centred(*names: str, median: bool = False) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def build(bars: pl.DataFrame) -> pl.DataFrame:
        def middle(name: str) -> pl.Expr:
            column = pl.col(name)
            if median:
                return column.rolling_median(3, center=True, min_samples=1)
            return column.rolling_mean(3, center=True, min_samples=1)

        return bars.with_columns(middle(name).alias(name) for name in names)

    return build


NEW_YORK = {"timezone": "America/New_York"}
HEADER = "ts,open,high,low,close,volume"


def _figures(row: dict[str, Any]) -> str:
    return f"{row['open']},{row['high']},{row['low']},{row['close']},{row['volume']:.0f}"


def _utc(row: dict[str, Any], form: str = "%Y-%m-%d %H:%M:%S+00:00") -> str:
    return row["ts"].strftime(form)  # type: ignore[no-any-return]


CASES = (
    Case("iso-zulu", plain()),
    Case("iso-offset", plain(form="%Y-%m-%dT%H:%M:%S%:z", zone="America/New_York")),
    Case("naive-asked", plain(form="%Y-%m-%d %H:%M:%S", zone="America/New_York"), refused='timezone = "America/New_York"'),
    Case("naive-told", plain(form="%Y-%m-%d %H:%M:%S", zone="America/New_York"), NEW_YORK),
    Case("naive-wrong", plain(form="%Y-%m-%d %H:%M:%S", zone="America/New_York"), {"timezone": "UTC"}, refused="at the wrong hour"),
    Case("naive-end-asked", plain(form="%Y-%m-%d %H:%M:%S", zone="Europe/Athens", shift=1), refused='timezone = "Europe/Athens" and label = "end"'),
    Case("naive-end-told", plain(form="%Y-%m-%d %H:%M", zone="Europe/Athens", shift=1), {"timezone": "Europe/Athens", "label": "end"}),
    Case("end-for-start", plain(shift=1), refused='[files] label = "end"'),
    Case("epoch-s", epoch(1)),
    Case("epoch-ms", epoch(1000)),
    Case("epoch-us", epoch(10**6)),
    Case("epoch-ns", epoch(10**9, header="timestamp,open,high,low,close,volume")),
    Case("us-dates", plain(form="%m/%d/%Y %H:%M", zone="America/New_York", header="Date/Time,Open,High,Low,Close,Volume"), NEW_YORK),
    Case("us-dates-am-pm", plain(form="%m/%d/%Y %I:%M %p", zone="America/New_York"), NEW_YORK),
    Case("european-dates", plain(form="%d.%m.%Y %H:%M", zone="Europe/Berlin"), {"timezone": "Europe/Berlin"}),
    Case("european-dates-comma", plain(form="%d.%m.%Y %H:%M", zone="Europe/Berlin", separator=";", header=HEADER.replace(",", ";"), cell=lambda v: f"{v:.2f}".replace(".", ",")), {"timezone": "Europe/Berlin"}),
    Case("single-digits", plain(form="%-m/%-d/%Y %-H:%M", zone="America/New_York"), NEW_YORK),
    Case("single-digit-hour", plain(form="%Y-%m-%d %-H:%M", zone="America/New_York"), NEW_YORK),
    Case("compact", plain(form="%Y%m%d %H%M%S", zone="America/New_York"), NEW_YORK),
    Case("compact-digits", plain(form="%Y%m%d%H%M", zone="UTC"), {"timezone": "UTC"}),
    Case("compact-seconds", plain(form="%Y%m%d%H%M%S", zone="UTC"), {"timezone": "UTC"}),
    Case("month-names", plain(form="%d-%b-%Y %H:%M", zone="America/New_York"), NEW_YORK),
    Case("slashes-year-first", plain(form="%Y/%m/%d %H:%M:%S", zone="America/New_York"), NEW_YORK),
    Case("gmt-suffix", plain(form="%d.%m.%Y %H:%M:%S.000 GMT+0000")),
    Case("net-ticks", text(lambda: [HEADER, *(f"{int(r['ts'].timestamp()) * 10**7 + 621_355_968 * 10**9},{_figures(r)}" for r in rows())]), {"timezone": "UTC"}),
    Case("spreadsheet-days", text(lambda: [HEADER, *(f"{r['ts'].timestamp() / 86400 + 25569:.6f},{_figures(r)}" for r in rows())]), {"timezone": "UTC"}),
    Case("date-and-time", plain(form="%Y-%m-%d,%H:%M:%S", zone="America/New_York", header="Date,Time,Open,High,Low,Close,Volume"), NEW_YORK),
    Case("kibot", plain(form="%m/%d/%Y,%H:%M", zone="America/New_York", header=""), NEW_YORK),
    Case("kibot-txt", plain(form="%m/%d/%Y,%H:%M", zone="America/New_York", header="", name="AAPL.txt"), NEW_YORK),
    Case("firstrate", plain(form="%Y-%m-%d %H:%M:%S", zone="America/New_York", header="", name="AAPL_full_1min_UNADJUSTED.txt")),
    Case("firstrate-week", plain(form="%Y-%m-%d %H:%M:%S", zone="America/New_York", header="", name="AAPL_week_1min.txt")),
    Case("firstrate-sample", plain(form="%Y-%m-%d %H:%M:%S", zone="America/New_York", header="timestamp,open,high,low,close,volume", name="AAPL_1min_sample.csv")),
    Case("firstrate-free", plain(form="%Y-%m-%d %H:%M:%S", zone="America/New_York", header="timestamp,open,high,low,close,volume", name="AAPL_1min_firstratedata.csv")),
    Case("named-like-a-sample-in-another-zone", plain(form="%Y-%m-%d %H:%M:%S", zone="UTC", header="timestamp,open,high,low,close,volume", name="AAPL_1min_sample.csv"), refused="at the wrong hour"),
    Case("lseg-as-delivered", both("#RIC,Domain,Date-Time,GMT Offset,Type,Open,High,Low,Last,Volume", lambda r: f"{r['ticker']}.OQ,Market Price,{_utc(r, '%Y-%m-%dT%H:%M:%S.000000000Z')},-4,Intraday 1Min,{_figures(r)}", "ric.csv"), tickers=DAYS),
    Case("tiingo-columns-asked", text(lambda: ["date,open,high,low,close,volume", *(f"{_utc(r, '%Y-%m-%dT%H:%M:%S.000Z')},{_figures(r)}" for r in rows())])),
    Case("binance-microseconds", epoch(10**6, header="", name="AAPL-1m-2026-06.csv", extra=",1781530259999999,1,1,1,1,0")),
    Case("ninjatrader", plain(form="%Y%m%d %H%M%S", zone="America/New_York", header="", separator=";", shift=1, name="AAPL.Last.txt"), NEW_YORK),
    Case("histdata", plain(form="%Y%m%d %H%M%S", zone="Etc/GMT+5", header="", separator=";", name="DAT_ASCII_AAPL_M1_2026.csv")),
    Case("metatrader5", text(lambda: ["<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>", *("\t".join([r["local"].strftime("%Y.%m.%d\t%H:%M:%S"), *(f"{r[p]}" for p in ("open", "high", "low", "close")), "7", f"{r['volume']:.0f}", "2"]) for r in rows(zone="Europe/Athens"))], name="AAPL_M1_202606081630_202606192259.csv"), {"timezone": "Europe/Athens"}),
    Case("metatrader5-api", text(lambda: ["time,open,high,low,close,tick_volume,spread,real_volume", *(f"{int(r['local'].replace(tzinfo=UTC).timestamp())},{r['open']},{r['high']},{r['low']},{r['close']},7,2,{r['volume']:.0f}" for r in rows(zone="Europe/Athens"))]), {"timezone": "Europe/Athens"}),
    Case("metatrader5-api-asked", text(lambda: ["time,open,high,low,close,tick_volume,spread,real_volume", *(f"{int(r['local'].replace(tzinfo=UTC).timestamp())},{r['open']},{r['high']},{r['low']},{r['close']},7,2,{r['volume']:.0f}" for r in rows(zone="Europe/Athens"))]), refused='timezone = "Europe/Athens"'),
    Case("broker-epoch", text(lambda: [HEADER, *(f"{int(r['local'].replace(tzinfo=UTC).timestamp())},{_figures(r)}" for r in rows(zone="Europe/Athens"))]), refused="a clock was taken for UTC"),
    Case("alpaca", both("symbol,timestamp,open,high,low,close,volume,trade_count,vwap", lambda r: f"{r['ticker']},{_utc(r)},{_figures(r)},3.0,1.0", "bars.csv"), tickers=DAYS),
    Case("databento", both("ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol", lambda r: f"{_utc(r, '%Y-%m-%dT%H:%M:%S.000000000Z')},33,95,38,{_figures(r)},{r['ticker']}", "equs.ohlcv-1m.csv"), tickers=DAYS),
    Case("databento-fixed", both("ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol", lambda r: f"{int(r['ts'].timestamp()) * 10**9},33,95,38," + ",".join(str(round(r[p] * 100) * 10**7) for p in ("open", "high", "low", "close")) + f",{r['volume']:.0f},{r['ticker']}", "equs.ohlcv-1m.csv"), tickers=DAYS),
    Case("databento-two-publishers", text(lambda: ["ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol", *(f"{int(r['ts'].timestamp()) * 10**9},33,{publisher},38,{r['open'] + publisher / 100},{r['high'] + publisher / 100},{r['low']},{r['close'] + publisher / 100},{r['volume']:.0f},AAPL" for r in rows() for publisher in (1, 2))], name="x.csv"), refused="disagree"),
    Case("polygon-flat", both("ticker,volume,open,close,high,low,window_start,transactions", lambda r: f"{r['ticker']},{r['volume']:.0f},{r['open']},{r['close']},{r['high']},{r['low']},{int(r['ts'].timestamp()) * 10**9},3", "2026-06-15.csv"), tickers=DAYS),
    Case("polygon-short-names", both("T,t,o,h,l,c,v", lambda r: f"{r['ticker'].replace('AMD', 'T')},{int(r['ts'].timestamp()) * 1000},{_figures(r)}", "aggs.csv"), tickers=DAYS, rename={"AMD": "T"}),
    Case("tickers-of-two-cases", both("ticker,ts,open,high,low,close,volume", lambda r: f"{r['ticker'].replace('AAPL', 'TPC').replace('AMD', 'TpC')},{_utc(r)},{_figures(r)}", "all.csv"), tickers=("AAPL",), rename={"AAPL": "TPC"}),
    Case("two-classes", two_classes, tickers=DAYS, rename={"AAPL": "BRK.A", "AMD": "BRK.B"}),
    Case("class-with-a-dash", plain(name="brk-b_1min.csv"), rename={"AAPL": "BRK.B"}),
    Case("two-tickers-in-the-name", both("ticker,ts,open,high,low,close,volume", lambda r: f"{r['ticker']},{_utc(r)},{_figures(r)}", "AAPL_AMD.csv"), tickers=DAYS),
    Case("yfinance-two", yfinance(grouped=False), tickers=DAYS),
    Case("yfinance-grouped", yfinance(grouped=True), tickers=DAYS),
    Case("tradingview", epoch(1, header="time,open,high,low,close,Volume", name="BATS_AAPL, 1_94e03.csv")),
    Case("tradingview-saved-twice", epoch(1, header="time,open,high,low,close,Volume", name="CME_MINI_AAPL, 1 (1).csv")),
    Case("binance", epoch(1000, header="", name="AAPL-1m-2026-06.csv", extra=",1781530259999,1,1,1,1,0")),
    Case("algoseek", text(lambda: ["Date,Ticker,TimeBarStart,FirstTradePrice,HighTradePrice,LowTradePrice,LastTradePrice,VolumeWeightPrice,Volume,TotalTrades", *(f"{r['local']:%Y%m%d},AAPL,{r['local']:%H:%M},{r['open']},{r['high']},{r['low']},{r['close']},1.0,{r['volume']:.0f},4" for r in rows())])),
    Case("bloomberg", both("ticker,time,open,high,low,close,volume", lambda r: f"{r['ticker']} US Equity,{_utc(r)},{_figures(r)}", "bars.csv"), tickers=DAYS),
    Case("lseg", both("#RIC,Date-Time,Open,High,Low,Last,Volume", lambda r: f"{r['ticker']}.OQ,{_utc(r, '%Y-%m-%dT%H:%M:%S.000000000Z')},{_figures(r)}", "ric.csv"), tickers=DAYS),
    Case("eodhd", text(lambda: ['"Timestamp","Gmtoffset","Datetime","Open","High","Low","Close","Volume"', *(f'{int(r["ts"].timestamp())},0,"{_utc(r, "%Y-%m-%d %H:%M:%S")}",{_figures(r)}' for r in rows())], name="AAPL.US.csv")),
    Case("twelve-data", text(lambda: ["datetime;open;high;low;close;volume", *(f"{r['at']};{_figures(r).replace(',', ';')}" for r in reversed(rows()))]), NEW_YORK),
    Case("tiingo-without-volume", text(lambda: ["date,close,high,low,open", *(f"{_utc(r, '%Y-%m-%dT%H:%M:%S.000Z')},{r['close']},{r['high']},{r['low']},{r['open']}" for r in rows())]), refused="no column volume"),
    Case("sierra-chart", text(lambda: ["Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume", *(f"{r['local']:%Y/%-m/%-d}, {r['local']:%H:%M:%S}, {_figures(r).replace(',', ', ')}, 1, 1, 1" for r in rows())]), NEW_YORK),
    Case("ib-async", text(lambda: [",date,open,high,low,close,volume,average,barCount", *(f"{n},{r['local'].isoformat(sep=' ')},{_figures(r)},1.5,3" for n, r in enumerate(rows()))])),
    Case("tws-api", text(lambda: ["date,open,high,low,close,volume,wap,barCount", *(f"{r['local']:%Y%m%d %H:%M:%S},{_figures(r)},1.5,3" for r in rows())]), NEW_YORK),
    Case("tws-api-names-its-zone", text(lambda: ["date,open,high,low,close,volume,wap,barCount", *(f"{r['local']:%Y%m%d %H:%M:%S} US/Eastern,{_figures(r)},1.5,3" for r in rows())])),
    Case("tws-api-utc", text(lambda: ["date,open,high,low,close,volume,wap,barCount", *(f"{_utc(r, '%Y%m%d-%H:%M:%S')},{_figures(r)},1.5,3" for r in rows())]), {"timezone": "UTC"}),
    Case("zone-that-nobody-has", text(lambda: [HEADER, *(f"{r['at']} Mars/Olympus,{_figures(r)}" for r in rows())]), refused="can be read"),
    Case("stooq", text(lambda: ["<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>", *(f"AAPL.US,1,{r['local']:%Y%m%d},{r['local']:%H%M%S},{_figures(r)},0" for r in rows(zone="Europe/Warsaw"))], name="aapl.us.txt"), {"timezone": "Europe/Warsaw"}),
    Case("stooq-asks-for-the-zone", text(lambda: ["<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>", *(f"AAPL.US,1,{r['local']:%Y%m%d},{r['local']:%H%M%S},{_figures(r)},0" for r in rows(zone="Europe/Warsaw"))], name="aapl.us.txt"), refused="[files] timezone"),
    Case("stooq-five-minutes", text(lambda: ["<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>", *(f"AAPL.US,5,{r['local']:%Y%m%d},{r['local']:%H%M%S},{_figures(r)},0" for r in rows(zone="Europe/Warsaw")[::5])], name="aapl.us.txt"), {"timezone": "Europe/Warsaw"}, refused="5-minute bars"),
    Case("dukascopy", text(lambda: ["Gmt time,Open,High,Low,Close,Volume", *(f"{_utc(r, '%d.%m.%Y %H:%M:%S.000')},{_figures(r)}" for r in rows())], name="AAPL.USUSD_Candlestick_1_M_BID_08.06.2026-19.06.2026.csv")),
    Case("dukascopy-local", text(lambda: ["Local time,Open,High,Low,Close,Volume", *(f"{r['local']:%d.%m.%Y %H:%M:%S.000 GMT%z},{_figures(r)}" for r in rows(zone="Europe/Zurich"))], name="AAPL.USUSD_Candlestick_1_M_BID_08.06.2026-19.06.2026.csv")),
    Case("thinkorswim", thinkorswim("OHLCV"), NEW_YORK),
    Case("thinkorswim-with-the-symbol", thinkorswim("SOHLCVP"), NEW_YORK),
    Case("thinkorswim-without-volume", thinkorswim("OHLC"), NEW_YORK, refused="OHLCV|open|high|low|close|volume"),
    Case("ninjatrader-exports-utc", plain(form="%Y%m%d %H%M%S", header="", separator=";", shift=1, name="AAPL.Last.txt")),
    Case("volume-with-a-k", text(lambda: [HEADER, *(f"{_utc(r)},{r['open']},{r['high']},{r['low']},{r['close']},{r['volume'] / 1000:.3f}K" for r in rows())])),
    Case("iqfeed-without-a-header", text(lambda: [f"{r['at']},{r['high']},{r['low']},{r['open']},{r['close']},{n * 100},{r['volume']:.0f},5" for n, r in enumerate(rows(shift=1))]), {**NEW_YORK, "label": "end"}, refused="the columns are not what they are taken for"),
    Case("iqfeed-with-its-columns", text(lambda: [f"{r['at']},{r['high']},{r['low']},{r['open']},{r['close']},{n * 100},{r['volume']:.0f},5" for n, r in enumerate(rows(shift=1))]), {**NEW_YORK, "label": "end", "columns": {"ts": "1", "high": "2", "low": "3", "open": "4", "close": "5", "volume": "7"}}),
    Case("high-and-low-swapped", parquet(lambda bars: bars.rename({"high": "low", "low": "high"})), refused="the columns are not what they are taken for"),
    Case("sep-line-of-a-spreadsheet", text(lambda: ["sep=;", HEADER.replace(",", ";"), *(f"{_utc(r)};{_figures(r).replace(',', ';')}" for r in rows())])),
    Case("barchart", text(lambda: ["Time,Open,High,Low,Last,Change,%Chg,Volume", *(f"{r['local']:%m/%d/%Y %H:%M},{r['open']},{r['high']},{r['low']},{r['close']},0.01,+0.01%,{r['volume']:.0f}" for r in reversed(rows())), '"Downloaded from Barchart.com as of 06-19-2026 04:00pm CDT"'], name="aapl_intraday-1min_historical-data-06-19-2026.csv"), NEW_YORK),
    Case("est-in-summer", text(lambda: [HEADER, *(f"{r['at']} EST,{_figures(r)}" for r in rows())]), refused="a clock was taken for UTC"),
    Case("kraken", text(lambda: [f"{int(r['ts'].timestamp())},{_figures(r)},12" for r in rows()], name="AAPL_1.csv")),
    Case("parquet-decimals", parquet(lambda bars: bars.with_columns(pl.col("open", "high", "low", "close").cast(pl.Decimal(18, 4))))),
    Case("parquet-date-and-time", parquet(lambda bars: bars.with_columns(pl.col("ts").dt.date().alias("date"), pl.col("ts").dt.time().alias("time")).drop("ts")), {"timezone": "UTC"}),
    Case("crypto-data-download", text(lambda: ["https://www.CryptoDataDownload.com", "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD", *(f"{int(r['ts'].timestamp())},{_utc(r, '%Y-%m-%d %H:%M:%S')},AAPL,{_figures(r)},1.0" for r in reversed(rows()))]), refused="no column volume"),
    Case("tradestation", text(lambda: ['"Date","Time","Open","High","Low","Close","Up","Down"', *(f"{r['local']:%m/%d/%Y},{r['local']:%H:%M},{r['open']:.2f},{r['high']:.2f},{r['low']:.2f},{r['close']:.2f},{r['volume'] // 3:.0f},{r['volume'] - r['volume'] // 3:.0f}" for r in rows(shift=1))]), NEW_YORK),
    Case("many-tables-in-a-zip", two_tables, refused="unpack it into the folder"),
    Case("text-whose-dates-are-open", text(lambda: ["ts;open;high;low;close;volume", *(f"{r['local']:%d.%m.%Y %H:%M};{_figures(r).replace(',', ';')}" for r in rows() if r["local"].day < 13)], name="AAPL_1min.txt"), {**NEW_YORK}, calendar="24/7", refused="date_order"),
    Case("lean", lean),
    Case("gzip", plain(name="AAPL.csv.gz", pack=gzip.compress)),
    Case("bzip2", plain(name="AAPL.csv.bz2", pack=bz2.compress)),
    Case("zstd", plain(name="AAPL.csv.zst", pack=_zstd_frame)),
    Case("zip", zipped("AAPL.zip", "AAPL.csv")),
    Case("utf-16", plain(encoding="utf-16")),
    Case("carriage-returns-alone", plain(pack=lambda data: data.replace(b"\n", b"\r"))),
    Case("line-ends-of-two-kinds", plain(pack=lambda data: data.replace(b"0\n", b"0\r\n"))),
    Case("preamble", text(lambda: ["# vendor export, do not edit", "# tz=UTC", HEADER, *(f"{_utc(r)},{_figures(r)}" for r in rows())])),
    Case("dollars", plain(cell=lambda value: f"${value:.2f}")),
    Case("trailing-comma", text(lambda: [HEADER, *(f"{_utc(r)},{_figures(r)}," for r in rows())])),
    Case("footer", text(lambda: [HEADER, *(f"{_utc(r)},{_figures(r)}" for r in rows()), '"Downloaded from a vendor"'])),
    Case("hive", parquet(lambda bars: bars, "ticker=AAPL/data_0.parquet")),
    Case("folder-named-as-a-file", parquet(lambda bars: bars, "AAPL.parquet/part-0.parquet")),
    Case("parquet-fixed-offset", arrow_zone("-04:00")),
    Case("parquet-odd-zone", arrow_zone("EDT")),
    Case("five-minutes", bundle(minutes=5, beside=False), refused="5-minute bars"),
    Case("five-beside-one", bundle(minutes=5, beside=True), refused="5-minute bars"),
    Case("fifteen-minutes", bundle(minutes=15, beside=False), refused="15-minute bars"),
    Case("adjusted-beside-not", two_files(lambda bars: bars.with_columns(pl.col("open", "high", "low", "close") / 4)), refused="disagree"),
    Case("same-twice", two_files(lambda bars: bars), refused=""),
    Case("micro-dollars", parquet(lambda bars: bars.with_columns(pl.col("open", "high", "low", "close") * 1e6)), refused="median price"),
    Case("volume-in-thousands", parquet(lambda bars: bars.with_columns(pl.col("volume") / 1000)), refused="never whole"),
    Case("unreadable", text(lambda: [HEADER, *(f"half past {n},{_figures(r)}" for n, r in enumerate(rows()))]), refused="can be read"),
)  # fmt: skip
