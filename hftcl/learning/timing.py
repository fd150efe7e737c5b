"""How long each stage of a story took. Called by the stories of `loop`; the only clock they read besides `now`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stopwatch:
    """Seconds by stage; a stage that is entered twice adds up."""

    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start

    def timings(self) -> dict[str, float]:
        """Return the stages and "total", in seconds, to the millisecond."""
        return {name: round(s, 3) for name, s in {**self.seconds, "total": time.monotonic() - self.began}.items()}
