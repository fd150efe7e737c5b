"""Who is told what: alerts wait in an outbox in the home and go out by mail, Apprise or a command of the user's.

`alert` is what there is to tell, `outbox` where it waits, `message` how it reads, `channels` which ways are set up,
`sender` the process that sends, `delivery` who hands over to it. To tell something, call `Alerts.tell`.
"""

from hftcl.alerts.alert import Alert, Kind
from hftcl.alerts.delivery import Alerts, SendResult

__all__ = ["Alert", "Alerts", "Kind", "SendResult"]
