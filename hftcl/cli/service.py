"""What a command that systemd runs as a service does about an upgrade under it."""

from collections.abc import Callable, Mapping


def watch_code(environ: Mapping[str, str]) -> Callable[[], bool]:
    """Return what says whether hftcl is another one on the disk than now.

    Of a service alone: systemd starts it again. What a person has started would end, perhaps unseen.
    """
    if "NOTIFY_SOCKET" not in environ:
        return lambda: False
    from hftcl.compute import code_digest  # here: `--status` and `--preview` need not wait for it

    code_digest.hash_code()
    return code_digest.is_code_replaced
