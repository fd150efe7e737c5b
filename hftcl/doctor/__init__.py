"""Is this installation sound? One line for each thing that must hold: ok, warning or fault, and what to do about it.

`market`, `archive`, `bot`, `machine` and `outside` hold the checks, `repairs` what can be mended safely, `units` the
systemd units, `prometheus` the state for node_exporter.
"""

from hftcl.doctor.examination import examine
from hftcl.doctor.row import Row

__all__ = ["Row", "examine"]
