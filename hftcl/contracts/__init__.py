"""What a plug-in promises, as functions that find out.

For the tests of all that are written, ours among them: each returns the promises that are broken, a line each, and
nothing is wrong where the tuple is empty. What the promises are for is in the Protocols of the rooms.
"""

from hftcl.contracts.layout import check_layout
from hftcl.contracts.model import check_family, check_feature
from hftcl.contracts.source import check_source
from hftcl.contracts.trading import check_broker, check_feed

__all__ = ["check_broker", "check_family", "check_feature", "check_feed", "check_layout", "check_source"]
