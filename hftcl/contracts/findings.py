"""What a look at a plug-in found: the promises that it broke, a line each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from traceback import walk_tb
from types import FrameType

from hftcl.config.plugins import list_section_faults
from hftcl.plug_ins import list_broken_calls


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

    def check_calls(self, plugin: object, promised: type, offered: Sequence[type] = ()) -> bool:
        """Note what cannot be called as we call it, see `list_broken_calls`; return whether there was nothing."""
        faults = list_broken_calls(plugin, promised, offered)
        self.broken += faults
        return not faults

    @contextmanager
    def hear(self, plugin: object) -> Iterator[None]:
        """Note what is raised within, by the method of `plugin` that it came out of, and go on after it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  whatever a stranger's code raises is the finding
            method = _find_method(error, plugin)
            promise = f"{method}() answers" if method else "its answers are of the types that it promises"
            self.check(False, f"{promise}: it raised {type(error).__name__}: {error}")

    def check_section(self, plugin: object) -> None:
        """Note what keeps the `SETTINGS` of a plug-in, where it has some, from being a section of hftcl.toml."""
        kind = getattr(plugin, "SETTINGS", None)
        if kind is not None:
            section = getattr(plugin, "SETTINGS_SECTION", "settings")
            self.broken += [f"its SETTINGS are a section: {fault}" for fault in list_section_faults(section, kind)]


def _find_method(error: Exception, plugin: object) -> str:
    """Return the method of `plugin` that was called first on the way to an error, or a function of no module of ours;
    "" where none was.
    """
    frames = [(frame, str(frame.f_globals.get("__name__"))) for frame, _ in walk_tb(error.__traceback__)]
    called = [(frame, module) for frame, module in frames if not module.startswith("hftcl.contracts.")]
    of_plugin = [frame for frame, _ in called if _is_method_of(frame, plugin)]
    strange = [frame for frame, module in called if not module.startswith("hftcl.")]
    return next((frame.f_code.co_name for frame in (*of_plugin, *strange)), "")


def _is_method_of(frame: FrameType, plugin: object) -> bool:
    code = frame.f_code
    return bool(code.co_argcount) and "." in code.co_qualname and frame.f_locals.get(code.co_varnames[0]) is plugin
