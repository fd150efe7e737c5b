"""May the bot trade at this moment? The one answer, for who has settings and no bot."""

from hftcl.archive.fitness import find_market_kind
from hftcl.archive.policy import hash_policy
from hftcl.archive.record import EdgeInForce, find_edge_in_force
from hftcl.archive.registry import Registry
from hftcl.errors import ConfigError, StorageError
from hftcl.home import Home
from hftcl.settings import Settings


def find_permission(settings: Settings) -> EdgeInForce:
    """Return whether the record of the configured policy lets the bot trade on bars of the configured kind.

    Its edge is None where the policy cannot be told, as with a file of features that cannot be read. Raises
    IntegrityError for a registry that cannot be believed.
    """
    registry = Registry(Home.of(settings).root)
    try:
        synthetic, policy = find_market_kind(settings).synthetic, hash_policy(settings)
    except (ConfigError, StorageError) as fault:
        return EdgeInForce(edge=None, reason=str(fault))
    return find_edge_in_force(registry, synthetic=synthetic, policy=policy)
