"""What a person wants of a running bot, said by signals and by a file."""

from dataclasses import dataclass
from pathlib import Path

from hftcl import durable


@dataclass(slots=True)
class Controls:
    """Signal handlers set these; the halt file is the one that outlives the process."""

    halt_file: Path | None = None
    stop: bool = False
    look: bool = False
    halt: bool = False

    def is_urgent(self) -> bool:
        """Whether a person wants something that nothing may be waited for: a stop, or the kill switch."""
        return self.stop or bool(self.read_halt())

    def read_halt(self) -> str:
        """Return why the kill switch is pressed, "" where it is not."""
        if self.halt:
            return "the signal SIGUSR1 was received"
        if self.halt_file is not None and self.halt_file.exists():
            return f"the file {self.halt_file.name} exists{_read_reason(self.halt_file)}"
        return ""


def _read_reason(path: Path) -> str:
    """Return what a person, or `--flatten`, wrote into the file, as one line; it halts whatever it says."""
    try:
        said = " ".join(durable.read_file(path)[:200].decode(errors="replace").split())
    except OSError:
        return ""
    return f": {said}" if said else ""
