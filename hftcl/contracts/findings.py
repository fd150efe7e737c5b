"""What a look at a plug-in found: the promises that it broke, a line each."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hftcl.config.plugins import list_section_faults


@dataclass(slots=True)
class Findings:
    """The promises that were broken, in the order in which they were looked at."""

    broken: list[str] = field(default_factory=list)

    def check(self, kept: bool, promise: str) -> bool:
        """Note `promise` as broken, once, unless it was kept; return whether it was."""
        if not kept and promise not in self.broken:
            self.broken.append(promise)
        return kept

    def check_refusal(self, act: Callable[[], object], error: type[Exception], promise: str) -> None:
        try:
            act()
        except error:
            return
        except Exception as other:  # noqa: BLE001  whatever a stranger's code raises instead is the finding
            self.broken.append(f"{promise}: it raised {type(other).__name__} instead")
        else:
            self.broken.append(promise)

    def check_section(self, plugin: object) -> None:
        """Note what keeps the `SETTINGS` of a plug-in, where it has some, from being a section of hftcl.toml."""
        kind = getattr(plugin, "SETTINGS", None)
        if kind is not None:
            section = getattr(plugin, "SETTINGS_SECTION", "settings")
            self.broken += [f"its SETTINGS are a section: {fault}" for fault in list_section_faults(section, kind)]
