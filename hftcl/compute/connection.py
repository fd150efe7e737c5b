"""The way to a Dask cluster: its address, certificates, and what is refused before any task."""

import asyncio
import json
import logging
import time
import warnings
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

from hftcl.compute.on_worker import explain_import, refuse
from hftcl.compute.versions import describe_difference, describe_versions
from hftcl.errors import ComputeError, fold_line, split_remedy
from hftcl.settings import Compute
from hftcl.waiting import GLANCE_S

R = TypeVar("R")

_LOGGERS: Final = ("distributed", "distributed.client", "tornado", "tornado.application")  # that Dask sets a level of
_SILENT: Final = logging.CRITICAL + 1  # above every level: what these would say, one sentence of ours says


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a scheduler is, and how to be trusted there. security: of Dask; None for its own configuration."""

    url: str
    security: Any = None


def require_installed() -> Any:
    """Return the library distributed. Raises ComputeError where it is not installed."""
    try:
        return import_module("distributed")
    except ModuleNotFoundError as missing:
        if missing.name not in {"distributed", "dask"}:
            raise
        raise ComputeError(
            '[compute] backend is "dask", and the library distributed is not installed. It is an extra: '
            "pip install 'hftcl[dask]'"
        ) from None


def find_scheduler(compute: Compute) -> Address | None:
    """Return the scheduler that the settings name; None where they name none. Raises ComputeError."""
    url = compute.scheduler or (_read_scheduler_file(Path(compute.scheduler_file)) if compute.scheduler_file else "")
    if not url:
        return None
    distributed = require_installed()
    given = {"tls_ca_file": compute.tls_ca_file, "tls_client_cert": compute.tls_cert, "tls_client_key": compute.tls_key}
    for path in filter(None, given.values()):
        if not Path(path).is_file():
            raise ComputeError(f"[compute]: there is no file {path}. Name the PEM file that the cluster was given.")
    encrypted = url.startswith("tls://")
    named = {name: path for name, path in given.items() if path}
    security = distributed.Security(require_encryption=encrypted, **named) if encrypted else distributed.Security()
    if encrypted and not (security.tls_ca_file and security.tls_client_cert):
        raise ComputeError(
            f"The scheduler {url} wants certificates, and none are named. Set [compute] tls_ca_file, tls_cert and "
            "tls_key."
        )
    return Address(url=url, security=security)


def _read_scheduler_file(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["address"])
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, KeyError, TypeError):
        reason = "it is not what `dask scheduler --scheduler-file` writes"
    raise ComputeError(
        f"[compute] scheduler_file {path} cannot be read: {reason}. Start the scheduler, which writes it."
    )


@contextmanager
def connect(address: Address, wait_s: float) -> Iterator[Any]:
    """Give a client of the scheduler, without a word of Dask's own. Raises ComputeError where it does not answer."""
    distributed = require_installed()
    with _silence():
        try:
            client = distributed.Client(
                address.url, timeout=wait_s, security=address.security, set_as_default=False, name="hftcl"
            )
        except (OSError, TypeError, ValueError, RuntimeError) as error:  # what comm, TLS and addresses raise
            raise ComputeError(
                f"The Dask scheduler {address.url} does not answer{_explain(error)}. Start it, or set [compute] "
                'backend = "local".'
            ) from error
        try:
            yield client
        finally:
            client.close()


def _explain(error: BaseException) -> str:
    """Return the deepest reason in brackets; nothing where Dask only says that time ran out."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = fold_line(str(error))
    return f" ({text[:160]})" if text and not isinstance(error, TimeoutError) else ""


@contextmanager
def _silence() -> Iterator[None]:
    """Let Dask log and warn nothing: a lost scheduler would be fifty lines."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(_SILENT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def require_fit_workers(client: Any, url: str, wait_s: float) -> dict[str, int]:
    """Return the threads of each worker, by address, all of them of the same versions as this process.

    Raises ComputeError where there is none after `wait_s`, and, by name, for each that is of other versions or does not
    answer within as long: Dask itself takes one that stands still for dead after five minutes.
    """
    try:
        threads = _wait_for_workers(client, url, wait_s)
        complaints = list(_judge_scheduler(client, url, wait_s))
        judged: set[str] = set()
        while not complaints and (joined := threads.keys() - judged):  # those that came meanwhile work too
            complaints = list(_judge_workers(client, sorted(joined), wait_s))
            judged |= joined
            threads = _wait_for_workers(client, url, wait_s)
    except TimeoutError:
        raise ComputeError(
            f"The Dask scheduler {url} has not answered for {wait_s:g} s ([compute] wait_s). Start it again, or set "
            '[compute] backend = "local".'
        ) from None
    except (OSError, CancelledError) as error:  # CommClosedError is one; TimeoutError is too, and told above
        raise ComputeError(
            f"The Dask scheduler {url} was lost while it was asked{_explain(error)}. Start it again, or set [compute] "
            'backend = "local".'
        ) from error
    if complaints:
        first, remedy = split_remedy(complaints[0])
        others = f" So have {len(complaints) - 1} more." if len(complaints) > 1 else ""
        raise ComputeError(f"{first}{others} {remedy}".rstrip())
    return threads


def _wait_for_workers(client: Any, url: str, wait_s: float) -> dict[str, int]:
    """Return the threads of each worker, once there is one. Raises TimeoutError where the scheduler does not answer."""
    until = time.monotonic() + wait_s
    while not (threads := _ask(client, client.nthreads(asynchronous=True), wait_s)):
        if time.monotonic() > until:
            raise ComputeError(
                f"The Dask scheduler {url} has no worker. Start one, such as `dask worker {url}`, or set [compute] "
                'backend = "local".'
            )
        time.sleep(GLANCE_S)
    return {str(address): int(number) for address, number in threads.items()}


def _ask(client: Any, question: Coroutine[Any, Any, R], wait_s: float) -> R:
    """Return what the client's own loop comes to. Raises TimeoutError where that takes longer than `wait_s`."""
    coming = asyncio.run_coroutine_threadsafe(question, client.loop.asyncio_loop)
    try:
        return coming.result(wait_s)
    finally:
        coming.cancel()  # of one that is done it says nothing


def _judge_workers(client: Any, addresses: Iterable[str], wait_s: float) -> Iterator[str]:
    async def ask(address: str) -> Any:
        asked = client.run(describe_versions, workers=[address], on_error="return", asynchronous=True)
        return (await asyncio.wait_for(asked, wait_s))[address]

    async def ask_all() -> list[Any]:
        return await asyncio.gather(*map(ask, addresses), return_exceptions=True)

    for address, found in zip(addresses, _ask(client, ask_all(), 2 * wait_s), strict=True):
        if isinstance(found, TimeoutError):
            yield (
                f"The worker {address} has not answered for {wait_s:g} s ([compute] wait_s). Stop it, or start it "
                "again, and run this again."
            )
        elif complaint := _judge(f"worker {address}", found):
            yield complaint


def _judge_scheduler(client: Any, url: str, wait_s: float) -> Iterator[str]:
    """Yield what is wrong with the scheduler, which has to load what a task names, but computes nothing."""
    try:
        _ask(client, client.run_on_scheduler(describe_versions, asynchronous=True), wait_s)
    except ImportError as error:
        yield _judge(f"scheduler {url}", error)


def _judge(who: str, found: Mapping[str, str] | BaseException) -> str:
    if isinstance(found, ImportError):
        return explain_import(f"The {who}", found)
    if isinstance(found, BaseException):
        return f"The {who} cannot tell its versions ({type(found).__name__}: {found}). Look at its log."
    difference = describe_difference(describe_versions(), found)
    return refuse(who.removeprefix("worker "), difference) if difference else ""
