"""One call to Alpaca's market data service: a JSON object that may be trusted, or a plain error.

Source of each rule: https://docs.alpaca.markets/docs/market-data-faq (403 for a wrong key and for a small plan, the
pace) and https://docs.alpaca.markets/reference/stockbars (bars, paging).
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from hftcl.errors import ConfigError, SourceError
from hftcl.home import Home
from hftcl.market.sources.deadline import BoundedPool, BoundedSecurePool
from hftcl.market.sources.rate_limit import RateLimiter
from hftcl.market.sources.transport import CONNECTIONS, TRIES, Key, Transport, Vendor, decode
from hftcl.settings import Settings

log = logging.getLogger(__name__)

KEY_VARIABLES: Final = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")
_VENDOR: Final = Vendor("Alpaca", "alpaca", address="data_url", pace="data_calls_per_minute")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,2000}")


class Keys:
    """The key's id and its secret. Its repr holds neither."""

    def __init__(self, ident: str, secret: str) -> None:
        """Take both. Raises ConfigError for what no header can carry."""
        self.ident = Key(KEY_VARIABLES[0], ident, "alpaca.markets")
        self.secret = Key(KEY_VARIABLES[1], secret, "alpaca.markets")

    def redact(self, text: str) -> str:
        """Return `text` as one short printable line without either."""
        return self.secret.redact(self.ident.redact(text))


def find_keys(settings: Settings) -> Keys:
    """Return the keys of the environment or the .env file. Raises ConfigError where one is missing."""
    from hftcl.config import read_secret

    values = [(read_secret(variable, settings, os.environ) or "").strip() for variable in KEY_VARIABLES]
    if not all(values):
        missing = " and ".join(name for name, value in zip(KEY_VARIABLES, values, strict=True) if not value)
        raise ConfigError(
            f"Alpaca's market data need a key: set {missing} in the environment or in the file "
            f"{settings.paths.env_file}, or take another source."
        )
    return Keys(*values)


class DataService:
    """Alpaca's market data at `[alpaca] data_url`: sends the keys there and nowhere else."""

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        *,
        timeout_s: float | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = TRIES,
    ) -> None:
        """Prepare; nothing is sent yet. Raises ConfigError for an address that is none."""
        self._keys = keys
        limiter = RateLimiter(
            Home.of(settings).alpaca_calls,
            settings.alpaca.data_calls_per_minute,
            name="alpaca",
            clock=clock,
            sleep=sleep,
        )
        self.transport = Transport(
            _VENDOR,
            settings.alpaca.data_url,
            self._connect,
            redact=keys.redact,
            timeout_s=timeout_s or settings.alpaca.timeout_s,
            limiter=limiter,
            clock=clock,
            sleep=sleep,
            tries=tries,
        )

    def _connect(self) -> tuple[Any, Mapping[str, str]]:
        import urllib3

        pools = urllib3.PoolManager(maxsize=CONNECTIONS)
        pools.pool_classes_by_scheme = {"http": BoundedPool, "https": BoundedSecurePool}
        headers = {
            "APCA-API-KEY-ID": self._keys.ident.value,
            "APCA-API-SECRET-KEY": self._keys.secret.value,
            "Accept-Encoding": "gzip",
        }
        return pools, headers

    def fetch_pages(self, path: str, query: Mapping[str, str], what: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (name, page) until a page names no next one. Raises SourceError: a range is whole or it is none."""
        asked: set[str] = set()
        token, n = "", 1
        while True:
            part = f"page {n} of {what}"
            page = self._get(path, {**query, "page_token": token} if token else query, part)
            if "next_page_token" not in page:
                raise build_untrusted_error(part, "does not say whether another page follows")
            yield part, page
            following = page["next_page_token"]
            if following is None or following == "":
                return
            if not isinstance(following, str) or not _TOKEN.fullmatch(following):
                raise build_untrusted_error(part, "names a next page that is none")
            if following in asked:
                raise build_untrusted_error(part, "names a next page that was read before")
            asked.add(following)
            token, n = following, n + 1

    def _get(self, path: str, query: Mapping[str, str], what: str) -> dict[str, Any]:
        answer = self.transport.ask(f"{path}?{urlencode(query)}", what)
        found = decode(answer.body)
        said = self.transport.describe(found, answer)
        if answer.status in (401, 403):
            plan = '; where the plan has no recent SIP data, set [alpaca] data_feed = "iex"' if _is_sip(query) else ""
            raise SourceError(f"Alpaca refused {what}{said}. Check {' and '.join(KEY_VARIABLES)}{plan}.")
        if answer.status != 200:
            raise SourceError(
                f"Alpaca answered {answer.status} to {what}{said}. Check [market] watchlist and [alpaca] data_url."
            )
        if found is None:
            raise SourceError(f"Alpaca: {what} is not JSON{said}. The range is incomplete; try again later.")
        return found


def _is_sip(query: Mapping[str, str]) -> bool:
    return query.get("feed") == "sip"


def build_untrusted_error(what: str, fault: str) -> SourceError:
    """Return the error of an answer that cannot be what was asked for."""
    return SourceError(f"Alpaca: {what} {fault}. The range is incomplete and is not used; try again later.")
