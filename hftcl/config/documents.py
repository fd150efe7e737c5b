"""What is written about the settings: the example, the reference, the `.env` template, and what is in force.

One text per setting, its description in `settings`, serves them all.
"""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from hftcl.config.dotenv import SECRETS, locate
from hftcl.config.loading import DEFAULT, PATHS, Configuration
from hftcl.config.prose import ENV_HEAD, EXAMPLE_HEAD, REFERENCE_HEAD
from hftcl.config.remembered import FILE_NAME
from hftcl.config.suggest import GUIDE_NAMES
from hftcl.config.tree import Leaf, list_all_leaves, list_sections
from hftcl.errors import StorageError, UsageError
from hftcl.settings import Settings

_WIDTH: Final = 100  # columns of the example


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSetting:
    """One setting in force; is_default: as it is without a file.

    A secret's `value` is "set" or "not set", and its `origin` "environment", a file, or "".
    """

    key: str
    value: object
    origin: str
    description: str
    is_default: bool = True

    @property
    def text(self) -> str:
        """The value as hftcl.toml writes it; a secret's as it is."""
        return str(self.value) if self.key in SECRETS else format_toml(self.value)


def list_effective(configuration: Configuration, environ: Mapping[str, str]) -> tuple[EffectiveSetting, ...]:
    """Return every setting with its value and origin, in the order of hftcl.toml, then the secrets, masked.

    Raises ConfigError where the `.env` file cannot be understood.
    """
    shown = list_settings(configuration)
    for name, description in SECRETS.items():
        value, origin = locate(name, configuration.settings, environ)
        masked = "not set" if value is None else "set"
        shown.append(EffectiveSetting(key=name, value=masked, origin=origin, description=description))
    return tuple(shown)


def list_settings(configuration: Configuration) -> list[EffectiveSetting]:
    """Return every setting with its value and origin, in the order of hftcl.toml, and no secret: reads no file."""
    tree = _to_tables(configuration.settings)
    folder = configuration.file.parent if configuration.file else None
    return [
        EffectiveSetting(
            key=key,
            value=tree[leaf.section][leaf.name],
            origin=configuration.origins[key],
            description=leaf.description,
            is_default=_is_default(leaf, tree[leaf.section][leaf.name], folder, configuration.origins[key]),
        )
        for key, leaf in list_all_leaves(configuration.plugins).items()
    ]


def _is_default(leaf: Leaf, value: object, folder: Path | None, origin: str) -> bool:
    """Return whether a setting is as hftcl has it without a file: a path in `folder`, that of the file, is too."""
    as_path = str(folder / str(leaf.default)) if folder is not None and leaf.key in PATHS else leaf.default
    return origin == DEFAULT or value == leaf.default or value == as_path


def to_toml(settings: Settings) -> str:
    """Return `settings` as a hftcl.toml, every setting written out; `load` reads it back as an equal tree."""
    import tomli_w

    return tomli_w.dumps(_to_tables(settings))


def _to_tables(settings: Settings) -> dict[str, Any]:
    """Return the sections as hftcl.toml has them: those of plug-ins beside ours."""
    tables = asdict(settings)
    brought = tables.pop("plugins")
    return {**tables, **brought}


def write_example(folder: Path, values: Mapping[str, object] | None = None) -> tuple[Path, ...]:
    """Write hftcl.toml and a `.env` template (mode 0600) into `folder`; return those written: what exists stays.

    values: by key, such as "files.timezone", what hftcl.toml has in place of the default.

    Raises UsageError where both exist, StorageError where the folder cannot be written.
    """
    from hftcl.durable import make_folder

    texts = {
        folder / FILE_NAME: (build_example(values), 0o644),
        folder / Settings().paths.env_file: (_build_env_template(), 0o600),
    }
    try:
        make_folder(folder)
        written = tuple(path for path, (text, mode) in texts.items() if _create(path, text, mode))
    except OSError as error:
        raise StorageError(
            f"Cannot write into {folder}: {error.strerror or error}. Nothing that was there is changed."
        ) from error
    if not written:
        raise UsageError(f"{' and '.join(map(str, texts))} exist, and hftcl init overwrites nothing. Edit them.")
    return written


def build_example(values: Mapping[str, object] | None = None) -> str:
    """Return hftcl.toml.example: each setting, its meaning, what it allows; defaults as comments, `values` in force."""
    return EXAMPLE_HEAD + "".join(_build_example_section(section, values or {}) for section in list_sections())


def build_reference() -> str:
    """Return docs/configuration.md."""
    guide = "".join(f"| `{old}` | `{new}` |\n" for old, new in GUIDE_NAMES.items())
    secrets = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in SECRETS.items())
    head = REFERENCE_HEAD.format(guide=guide.rstrip("\n"), secrets=secrets.rstrip("\n"))
    return head + "".join(_build_reference_section(section) for section in list_sections())


def _list_leaves(section: str) -> Iterator[Leaf]:
    return (leaf for leaf in list_all_leaves().values() if leaf.section == section)


def _describe_section(section: str) -> str:
    return " ".join((list_sections()[section].__doc__ or "").split())


def _build_example_section(section: str, values: Mapping[str, object]) -> str:
    lines = ["", "", f"[{section}]", *_format_comment(_describe_section(section))]
    for leaf in _list_leaves(section):
        lines += ["", *_format_comment(leaf.description), *_format_comment(f"Allowed: {leaf.allowed}.")]
        given = leaf.key in values
        lines.append(f"{'' if given else '# '}{leaf.name} = {format_toml(values.get(leaf.key, leaf.default))}")
    return "\n".join(lines) + "\n"


def _build_reference_section(section: str) -> str:
    rows = "".join(
        f"| `{leaf.key}` | `{format_toml(leaf.default)}` | {_to_cell(leaf.allowed)} | {_to_cell(leaf.description)} |\n"
        for leaf in _list_leaves(section)
    )
    head = "| setting | default | allowed | meaning |\n| --- | --- | --- | --- |\n"
    return f"\n### [{section}]\n\n{_describe_section(section)}\n\n{head}{rows}"


def _to_cell(text: str) -> str:
    return text.replace("|", "\\|")


def _format_comment(text: str) -> list[str]:
    # Neither hyphens nor long words are broken: a key that is split over two lines cannot be searched for.
    return textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def format_toml(value: object) -> str:
    """Return one value as TOML, on one line."""
    import tomli_w

    match value:
        case tuple() | list():
            return f"[{', '.join(format_toml(element) for element in value)}]"
        case dict():
            pairs = ", ".join(f"{name} = {format_toml(element)}" for name, element in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")


def _build_env_template() -> str:
    return ENV_HEAD + "".join(f"\n# {meaning}\n# {name}=\n" for name, meaning in SECRETS.items())


def _create(path: Path, text: str, mode: int) -> bool:
    """Write a whole new file that survives a power cut; False, and nothing changed, where `path` exists."""
    from hftcl.durable import sync_folder, write_temporary

    if path.exists():
        return False
    temporary = write_temporary(path, text.encode(), mode=mode)
    try:
        # A link, not a rename, which would replace a dangling link, or a file that appeared meanwhile.
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True
