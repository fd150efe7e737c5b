"""The way to a Dask cluster: its address, certificates, and what is refused before any task."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from hftcl.compute.on_worker import refuse
from hftcl.compute.versions import describe_difference, describe_versions
from hftcl.errors import ComputeError, split_remedy
from hftcl.settings import Compute

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
    text = " ".join(str(error).split())
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

    Raises ComputeError where there is none after `wait_s`, and for each that is of other versions, by name.
    """
    try:
        client.wait_for_workers(1, timeout=wait_s)
    except TimeoutError:
        raise ComputeError(
            f"The Dask scheduler {url} has no worker. Start one, such as `dask worker {url}`, or set [compute] "
            'backend = "local".'
        ) from None
    complaints = [*_judge_scheduler(client, url), *_judge_workers(client)]
    if complaints:
        first, remedy = split_remedy(complaints[0])
        others = f" So have {len(complaints) - 1} more." if len(complaints) > 1 else ""
        raise ComputeError(f"{first}{others} {remedy}".rstrip())
    return {str(address): int(threads) for address, threads in client.nthreads().items()}


def _judge_workers(client: Any) -> Iterator[str]:
    for address, found in client.run(describe_versions, on_error="return").items():
        complaint = _judge(f"worker {address}", found)
        if complaint:
            yield complaint


def _judge_scheduler(client: Any, url: str) -> Iterator[str]:
    """Yield what is wrong with the scheduler, which has to load what a task names, but computes nothing."""
    try:
        client.run_on_scheduler(describe_versions)
    except ImportError as error:
        yield _judge(f"scheduler {url}", error)


def _judge(who: str, found: Mapping[str, str] | BaseException) -> str:
    if isinstance(found, ImportError):
        return f"The {who} cannot load hftcl ({found}). Install there what is installed here."
    if isinstance(found, BaseException):
        return f"The {who} cannot tell its versions ({type(found).__name__}: {found}). Look at its log."
    difference = describe_difference(describe_versions(), found)
    return refuse(who.removeprefix("worker "), difference) if difference else ""
