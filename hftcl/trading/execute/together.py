"""What is handed to a broker in one go where it takes orders together, and one by one where it does not."""

import contextlib
from collections.abc import Callable

from hftcl.errors import BrokerError
from hftcl.trading.brokers import Broker, TakesTogether


def act_together(broker: Broker, act: Callable[[], None]) -> BrokerError | None:
    """Do `act` within the broker's `together`, where it has one; return the BrokerError at its begin or end, if any.

    With one nothing that `act` was told is known any more: the broker is asked for each order by its id. `act` keeps
    what each call of it raises to itself, else the rest of it is not done.
    """
    try:
        with broker.together() if isinstance(broker, TakesTogether) else contextlib.nullcontext():
            act()
    except BrokerError as error:
        return error
    return None
