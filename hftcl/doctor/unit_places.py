"""What a unit names and its service would not find: paths in the folders of which each service gets its own, empty."""

from collections.abc import Iterator
from typing import Final

from hftcl.doctor.units import Installation

_OWN: Final = {"/tmp": "PrivateTmp=", "/var/tmp": "PrivateTmp=", "/dev/shm": "TemporaryFileSystem="}  # noqa: S108 - told, not used


def list_unseen(place: Installation) -> Iterator[str]:
    """Yield a sentence about each path of `place` that a service would not see."""
    needed = [place.home, *([place.config] if place.config else []), *place.code, *place.writable]
    for path in dict.fromkeys([*needed, *place.readable]):
        for folder, setting in _OWN.items():
            if path.is_relative_to(folder):
                happens = "it does not start" if path in needed else "it starts, and what reads that path finds nothing"
                yield (
                    f"{path} is in {folder}, of which the service gets one of its own, empty ({setting}): {happens}. "
                    "Move it elsewhere, such as below /srv or /var/lib, and print the unit again."
                )
