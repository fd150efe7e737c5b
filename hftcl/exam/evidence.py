"""One fact of an exam, as verdict, edge and trials tell it and a person reads it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One fact of an exam. `value` and `threshold` are None where it is not a number; `detail` then tells it.

    One that `decides` and did not pass keeps the challenger from being promoted; the others are there to be read.
    """

    name: str
    value: float | None
    threshold: float | None
    passed: bool
    detail: str = ""
    decides: bool = True
    above: bool = False
    """Whether `value` must lie above `threshold`, or may equal it."""

    def __str__(self) -> str:
        """Return it as a person reads it: "Sharpe 0.31, needs more than 0.50"; the detail alone where there is one."""
        if self.detail or self.value is None or self.threshold is None:
            return self.detail or self.name
        value, threshold = self.value, self.threshold
        # 0.4999 is not "0.50, needs 0.50"
        digits = next((d for d in (2, 4, 6) if round(value, d) != round(threshold, d)), 2)
        needs = "needs more than" if self.above else "needs"
        return f"{self.name} {value:.{digits}f}, {needs} {threshold:.{digits}f}"


def build_evidence(name: str, detail: str, *, passed: bool = False, decides: bool = True) -> Evidence:
    """Return a fact that is no number, told by `detail`."""
    return Evidence(name=name, value=None, threshold=None, passed=passed, detail=detail, decides=decides)
