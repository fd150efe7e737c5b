"""What can go wrong, one class per thing that a caller may want to tell apart.

Each class knows the exit status of the command that ends with it; the command line only prints the message. A message
says what happened, to what, and what to do, in one or two lines, and never holds a secret. The tree,
where a class has the exit status of the one above it unless it says:

    HftclError (exit 1)
        UsageError (exit 2)
        ConfigError (exit 78)
        SourceError
            ImplausibleBarsError
            RefusedBarsError
        NoDataError
        IntegrityError
        UnfitModelError
        StorageError
            NoRoomError
        TrainingError
            TrainingKilledError
        ComputeError
        FeatureError
        ModelNotFoundError
        RollbackError
        PinnedError
        NotPromotedError
        SupersededError (exit 75)
        BrokerError
            BrokerAnswerError
            BrokerTimeoutError
            BrokerBusyError
            WaitEndedError
            OrderRefusedError
        PlugInError
        UndefinedStatisticError
        NewerVersionError (exit 78)
        LockHeldError (exit 75)
"""

from datetime import datetime


class HftclError(Exception):
    """The command could not do its work."""

    exit_code = 1


def split_remedy(message: str) -> tuple[str, str]:
    """Return what happened and what to do about it: the last sentence of a message, "" where it has but one.

    >>> split_remedy("The file model.onnx was altered. Restore it from a backup.")
    ('The file model.onnx was altered.', 'Restore it from a backup.')
    >>> split_remedy("No model serves.")
    ('No model serves.', '')
    """
    happened, stop, remedy = message.rstrip(".").rpartition(". ")
    return (f"{happened}.", f"{remedy}.") if stop else (message, "")


def fold_line(text: str) -> str:
    r"""Return a text of others, such as a service's or a library's, in one line, without what cannot be printed.

    >>> fold_line("an odd\n  thing\x1b[2J ")
    'an odd thing [2J'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


class UsageError(HftclError):
    """The caller asked for something that does not exist: an unknown parameter, a malformed model id or date."""

    exit_code = 2


class ConfigError(HftclError):
    """The configuration is invalid. `faults` holds one line per fault; all of them are told at once."""

    exit_code = 78

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class SourceError(HftclError):
    """A bar source could not answer, or answered with something that cannot be trusted."""


class ImplausibleBarsError(SourceError):
    """The bars cannot be true: another interval or unit, values that know later minutes, a leap that no split explains.

    No model may be trained on them: what it would find is the fault.
    """


class RefusedBarsError(SourceError):
    """The bars of one ticker cannot be used, and those of the others can: it is left out, and told."""


class NoDataError(HftclError):
    """There are too few bars to do what was asked."""


class IntegrityError(HftclError):
    """A file is not what was written: truncated, altered, or of another program."""


class UnfitModelError(HftclError):
    """A model may not serve this market: trained on other bars, other sessions, or other features."""


class StorageError(HftclError):
    """The disk is full, read-only, forbidden or failing. What was live before still is."""


class NoRoomError(StorageError):
    """What a command works with could not be written to an unnamed file in $TMPDIR, most likely for lack of room."""


class TrainingError(HftclError):
    """The training process failed, was killed or ran out of memory. The serving model is untouched."""


class TrainingKilledError(TrainingError):
    """The training process was killed from outside, most likely by the kernel for lack of memory."""


class ComputeError(HftclError):
    """The Dask cluster cannot do the work: its scheduler is gone, it has no worker, or one of another version."""


class FeatureError(HftclError):
    """A feature of the user's own breaks a promise: it looks ahead, or the bot would find other values."""


class ModelNotFoundError(HftclError):
    """No model of that id is in the archive."""


class RollbackError(HftclError):
    """There is nothing to roll back to."""


class PinnedError(HftclError):
    """A person rolled back, so automatic deployment waits for `hftcl unpin`."""


class NotPromotedError(HftclError):
    """The model did not pass its exam, so it does not deploy by itself."""


class SupersededError(HftclError):
    """Another process changed the live model meanwhile: what was decided against the old one is void."""

    exit_code = 75


class BrokerError(HftclError):
    """The broker could not answer, refused the keys, or answered with something that cannot be trusted."""


class BrokerAnswerError(BrokerError):
    """The broker said what cannot be true. about: what it said it of."""

    def __init__(self, message: str, about: str) -> None:
        super().__init__(message)
        self.about = about


class BrokerTimeoutError(BrokerError):
    """It is not known whether the order arrived: ask for it by its id."""


class BrokerBusyError(BrokerError):
    """The broker takes no more calls for a while, and took none of what was asked. until: when it does again, UTC."""

    def __init__(self, message: str, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class WaitEndedError(BrokerError):
    """A call was not waited for any longer, because a person wants something else: a stop, or the kill switch."""


class OrderRefusedError(BrokerError):
    """The broker refused the order, and sending it again does not help.

    `reason` is the broker's, as one line; `code` says which kind it is of.

    The codes are those of `trading.brokers.refusals`, "broker" for any other.
    """

    def __init__(self, client_order_id: str, reason: str, code: str = "broker") -> None:
        super().__init__(f"The broker refused the order {client_order_id}: {reason}.")
        self.reason = reason
        self.code = code


class PlugInError(HftclError):
    """The code of a plug-in, which is not ours, failed, or cannot be called as it promises."""


class UndefinedStatisticError(HftclError):
    """A figure that these numbers do not define, such as the Sharpe ratio of one session."""


class NewerVersionError(HftclError):
    """A file of ours was written by a newer hftcl."""

    exit_code = 78


class LockHeldError(HftclError):
    """Another process is doing what was asked."""

    exit_code = 75

    def __init__(self, what: str, pid: int | None, since: datetime | None) -> None:
        began = f" since {since:%Y-%m-%d %H:%M} UTC" if since else ""
        holder = f" (process {pid})" if pid else ""
        super().__init__(f"Another {what} has been running{began}{holder}. Let it finish.")
