"""Nonsense of every kind, handed to what reads it: each is taken, or refused by one error of ours in one line.

Seeded: a case is (kind, number), and the same one always has the same content. Real parsers and files, no network.
"""

import contextlib
import hashlib
import io
import random
import re
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hftcl import config
from hftcl.archive import artifact
from hftcl.archive.adoption import read_metadata
from hftcl.config.tree import list_all_leaves
from hftcl.errors import HftclError
from hftcl.market.inspect import inspect
from hftcl.market.sources.polygon_bars import build_frame, decode_page
from hftcl.settings import Settings

_TAIL_BYTES: Final = 82  # of a model file: 18 of head and frame, 64 of the digest
_TUPLE: Final = re.compile(r"\('[\w .:/-]*',")
LEAVES: Final = tuple(list_all_leaves().values())
WORDS: Final = (
    *("", " ", "0", "-1", "1e308", "1e400", "nan", "inf", "-inf", "9" * 400, "true", "null", "~", "..", "../../x"),
    *("9999-12-31", "0001-01-01", "2025-13-45", "2025-12-01..2025-01-01", "..", "2026-01-05T24:00", "NUL", "CON"),
    *(
        "\x00",
        "\x1b[2J",
        "\r\n",
        "\ud800",
        "ü" * 300,
        "=cmd",
        "{",
        "[",
        '"',
        "'",
        "\\",
        "%s",
        "$(id)",
        "20260109_020000",
    ),
    *("X:BTCUSD", "AAPL", "--", "-", "-vv", "--json", "1_000", "0x10", "1e-320", "\u2028", "\ufeff", "١٢"),
)
COMMANDS: Final = (
    *(("history", "--limit"), ("check", "--as-of"), ("rollback", "--yes"), ("exam",), ("record", "--begin-anew")),
    *(("report", "--since"), ("schedule", "--preview"), ("trade", "--replay"), ("inspect",), ("init", "--show")),
    *(("doctor", "--unit"), ("doctor", "--stopped"), ("trade", "--status"), ("history",), ("unpin",)),
)


def _text(chance: random.Random) -> str:
    """Return a hostile word, or some random characters."""
    if chance.random() < 0.7:
        return chance.choice(WORDS)
    return "".join(chance.choice(string.printable) for _ in range(chance.randrange(1, 40)))


def _mutate(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with some bytes changed, doubled, or cut off."""
    mutated = bytearray(data)
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(mutated) or 1)
        match chance.randrange(4):
            case 0:
                del mutated[at : at + chance.randrange(1, 60)]
            case 1:
                mutated[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 20)))
            case 2:
                mutated[at:at] = mutated[at : at + 80]
            case _:
                mutated[at : at + 1] = bytes([chance.randrange(256)])
    return bytes(mutated)


def fuzz_configuration(folder: Path, chance: random.Random) -> None:
    """Load a hftcl.toml of nonsense."""
    leaf = chance.choice(LEAVES)
    value = chance.choice([f'"{_text(chance)}"', _text(chance), f"[{_text(chance)}]", "{ a = 1 }", "1979-05-27"])
    text = f"[{leaf.section}]\n{leaf.name} = {value}\n".encode("utf-8", "surrogatepass")
    (folder / "hftcl.toml").write_bytes(_mutate(text, chance) if chance.random() < 0.5 else text)
    config.load(None, environ={}, cwd=folder)


def fuzz_environment(folder: Path, chance: random.Random) -> None:
    """Load settings and secrets from an environment and a .env of nonsense."""
    (folder / "hftcl.toml").unlink(missing_ok=True)
    environ = {chance.choice(LEAVES).variable: _text(chance) for _ in range(3)}
    (folder / ".env").write_bytes(_mutate(b"POLYGON_API_KEY='k'\nSMTP_HOST=h # x\nexport A=b\n", chance))
    settings = config.load(None, environ={}, cwd=folder).settings
    config.read_secret("POLYGON_API_KEY", settings, {})
    config.load(None, environ=environ, cwd=folder)


_CSV: Final = b"timestamp,open,high,low,close,volume\n" + b"".join(
    b"2025-06-02 %02d:%02d:00,100.%d,101,99,100.5,1000\n" % (9 + m // 60, m % 60, m) for m in range(30, 90)
)


def fuzz_bars(folder: Path, chance: random.Random) -> None:
    """Look into a folder with a damaged file of bars."""
    bars = folder / "bars"
    bars.mkdir(exist_ok=True)
    for path in bars.iterdir():
        path.unlink()
    name = chance.choice(
        ["AAPL.csv", "AAPL.txt", "AAPL.parquet", "AAPL.csv.gz", "AAPL.zip", "AAPL.tsv", "AAPL.csv.zst"]
    )
    (bars / name).write_bytes(_mutate(_CSV, chance))
    inspect(Settings(), bars, on_event=lambda event: None)


_PAGE: Final = (
    b'{"ticker":"AAPL","status":"OK","resultsCount":2,"results":[{"t":1748871000000,"o":1,"h":2,"l":1,"c":2,"v":10},'
    b'{"t":1748871060000,"o":1.5,"h":2,"l":1,"c":2,"v":1e308}],"next_url":"https://api.polygon.io/x?cursor=1"}'
)


def fuzz_json(folder: Path, chance: random.Random) -> None:
    """Decode a page of a vendor, and a list of models of another program."""
    body = _mutate(_PAGE, chance)
    page = decode_page(body)
    if isinstance(page, dict) and isinstance(page.get("results"), list):
        build_frame("AAPL", page["results"])
    path = folder / "model_metadata.csv"
    path.write_bytes(_mutate(b"model_id,trained_date,val_sharpe\na,2025-01-05,0.5\nb,2025-01-12 02:00:00,x\n", chance))
    read_metadata(path)


def fuzz_model_file(folder: Path, chance: random.Random, good: bytes) -> None:
    """Load a damaged model file, half of them with a digest that fits again."""
    digest_fits = chance.random() < 0.5
    data = _mutate(good[:-_TAIL_BYTES] if digest_fits else good, chance)
    if digest_fits:  # so that what is behind the digest meets the nonsense, too
        data += good[-_TAIL_BYTES:-64] + hashlib.sha256(data).hexdigest().encode()
    path = folder / "model.onnx"
    path.write_bytes(data)
    artifact.load(path)
    if data != good and not digest_fits:
        raise ValueError("a damaged model file was loaded")


def fuzz_arguments(folder: Path, chance: random.Random) -> None:
    """Run a command that trains and trades nothing with arguments of nonsense, in this process."""
    from typer import TyperException

    from hftcl.cli.process import load_app, move_globals_first

    words = [*chance.choice(COMMANDS), *(_text(chance) for _ in range(chance.randrange(4)))]
    app: Any = load_app()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(TyperException, SystemExit),
    ):
        (folder / "hftcl.toml").write_text('[market]\nwatchlist = ["AAPL"]\nlookback_days = 10\n')
        app(args=move_globals_first(words), prog_name="hftcl", standalone_mode=False)


KINDS: Final[dict[str, tuple[Callable[..., None], int]]] = {
    "configuration": (fuzz_configuration, 4000),
    "environment": (fuzz_environment, 2500),
    "bars": (fuzz_bars, 1000),
    "JSON and lists": (fuzz_json, 2000),
    "model files": (fuzz_model_file, 1000),
    "arguments": (fuzz_arguments, 500),
}
"""What is fuzzed, and in how many cases by the command that prints the figures."""


def _is_raw(text: str) -> bool:
    return "\n" in text or "Traceback" in text or _TUPLE.search(text) is not None


def fuzz(folder: Path, kind: str, numbers: range, *, good: bytes = b"") -> list[str]:
    """Run the cases of one kind; return a line about each that raised what is no error of ours.

    So is one of several lines, of a traceback, or with the text of a Python tuple in it.
    """
    act = KINDS[kind][0]
    raised = []
    for number in numbers:
        chance = random.Random(f"{kind} {number}")  # noqa: S311
        try:
            act(folder, chance, good) if kind == "model files" else act(folder, chance)
        except HftclError as error:
            texts = getattr(error, "faults", (str(error),))
            raised += [f"{kind} {number}: {text!r}" for text in texts if _is_raw(text)]
        except Exception as error:  # noqa: BLE001 - that none comes is what is tried
            raised.append(f"{kind} {number}: {type(error).__name__}: {error}"[:300])
    return raised


if __name__ == "__main__":
    sys.stdout.write("\n".join(fuzz(Path(sys.argv[1]), sys.argv[2], range(int(sys.argv[3]), int(sys.argv[4])))) + "\n")
