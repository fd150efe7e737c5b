"""What the global options said, and the configuration that a command reads by them; says on stderr which file it is."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hftcl.values import Value, value_class

if TYPE_CHECKING:
    from hftcl.api.continuous_learning import ContinuousLearning
    from hftcl.config import Configuration
    from hftcl.home import Home

homes_read: list["Home"] = []
"""The homes of the configurations that this command has read, for what is to be told at its end."""


@value_class(frozen=True, slots=True)
class Invocation(Value):
    """What the global options said. The configuration is read when a command needs it, so that --help never fails."""

    config: Path | None = None
    verbosity: int = 0

    def read_configuration(self, **overrides: object) -> "Configuration":
        from hftcl import config

        return self._tell(config.load(self.config, environ=os.environ, cwd=Path.cwd(), overrides=overrides))

    def read_configuration_without_plugins(self) -> "Configuration":
        """Read the configuration for a command that uses no plug-in: none is imported, none judged."""
        from hftcl import config

        return self._tell(config.load(self.config, environ=os.environ, cwd=Path.cwd(), plugins=False))

    def _tell(self, configuration: "Configuration") -> "Configuration":
        """Say on stderr which file is used where none was named; the home is where calendars are kept."""
        from hftcl.home import Home
        from hftcl.market.calendar_file import keep_calendars

        homes_read.append(Home.of(configuration.settings))
        keep_calendars(homes_read[-1])
        if configuration.remembered and self.verbosity >= 0:
            from hftcl.views.terminal import LastingTerminal

            # the kill switch does not end because nothing takes this
            told = f"hftcl: settings of {configuration.file}, with which this home was last used\n"
            LastingTerminal(sys.stderr).put(told)
        return configuration

    def build_learning(self, configuration: "Configuration | None" = None) -> "ContinuousLearning":
        """Return the loop with these settings, or, where none are given, with those that this command reads."""
        from hftcl import logs
        from hftcl.api.continuous_learning import ContinuousLearning
        from hftcl.views.progress import build_listener

        settings = (configuration or self.read_configuration()).settings
        logs.configure(settings.log, self.verbosity)
        return ContinuousLearning(settings, on_event=build_listener(self.verbosity))


def now() -> datetime:
    """Return the time of this moment, UTC."""
    return datetime.now(UTC)  # noqa: TID251  # this is the edge
