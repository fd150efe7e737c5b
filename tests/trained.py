"""Homes with trained models, each made once a session by the worker that asks first, and handed out as copies."""

import fcntl
import hashlib
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.installed import give_calendar


@dataclass(frozen=True, slots=True)
class Homes:
    """Makes homes under `folder`, which all workers of a session share; a lock lets one make what the others need."""

    folder: Path

    def copy(self, to: Path, make: Callable[..., Any], **options: object) -> Any:
        """Copy the home that `make(home, **options)` makes to the new folder `to`; return what `make` returned."""
        original = self._made(make, options)
        shutil.copytree(original / "home", to)
        give_calendar(to)
        return pickle.loads((original / "returned.pickle").read_bytes())  # noqa: S301 - written below

    def _made(self, make: Callable[..., Any], options: dict[str, object]) -> Path:
        settings = repr(sorted(options.items()))
        name = f"{make.__module__}.{make.__qualname__}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
        place = self.folder / name
        self.folder.mkdir(exist_ok=True)
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait here
            if not (place / "returned.pickle").exists():  # written last: without it, the making failed half way
                shutil.rmtree(place, ignore_errors=True)
                (place / "home").mkdir(parents=True)
                returned = make(place / "home", **options)
                (place / "returned.pickle").write_bytes(pickle.dumps(returned))
        return place
