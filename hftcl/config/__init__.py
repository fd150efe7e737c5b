"""TOML, environment and flags into `Settings`, and secrets beside them.

`loading` reads and collects every fault, `tree` says what a setting allows, `checks` what settings together allow,
`suggest` what was meant, `dotenv` holds the secrets, `documents` writes the example, the reference and what is in
force in the words of `prose`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from hftcl.config.dotenv import SECRETS, list_findings, read_secret
from hftcl.config.loading import Configuration, from_text, load

if TYPE_CHECKING:
    from hftcl.config.documents import EffectiveSetting as EffectiveSetting
    from hftcl.config.documents import build_example as build_example
    from hftcl.config.documents import build_reference as build_reference
    from hftcl.config.documents import list_effective as list_effective
    from hftcl.config.documents import to_toml as to_toml
    from hftcl.config.documents import write_example as write_example

_DOCUMENTS: Final = (  # what `documents` has: imported when first asked for, as only `init` and `settings` need it
    "EffectiveSetting",
    "WrittenExample",
    "list_effective",
    "build_example",
    "build_reference",
    "to_toml",
    "write_example",
)

__all__ = ["SECRETS", "Configuration", "list_findings", "from_text", "load", "read_secret", *_DOCUMENTS]


def __getattr__(name: str) -> Any:
    if name not in _DOCUMENTS:
        raise AttributeError(f"module 'hftcl.config' has no attribute {name!r}")
    return getattr(import_module("hftcl.config.documents"), name)  # only `hftcl init` needs them
