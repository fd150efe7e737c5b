"""The text around the settings: the heads of hftcl.toml.example, docs/configuration.md and the `.env` template."""

from typing import Final

# A text apart from code: the settings below it are drawn from `Settings`, only this is written by hand.
EXAMPLE_HEAD: Final = """\
# hftcl.toml: every setting of hftcl, with its default as a comment. Take the # away from what you change.
#
# hftcl reads the file named by --config, else by $HFTCL_CONFIG, else ./hftcl.toml; without any,
# the defaults below hold. Paths are relative to this file; ~ is your home folder.
#
# A flag goes before an environment variable, which goes before this file. The variable of
# n_estimators in [model] is HFTCL_MODEL__N_ESTIMATORS, and so on for each setting.
# `hftcl init --show` prints what is in force, and where each value came from.
#
# Keys and passwords do not belong here: set them in the environment, or in the file .env.
"""

# As EXAMPLE_HEAD: the names below it are drawn from `SECRETS`.
ENV_HEAD: Final = """\
# Secrets of hftcl, KEY=value a line. What is set in the environment goes before what is set here.
# Settings do not belong here: they are in hftcl.toml. Keep this file out of version control.
"""

# As EXAMPLE_HEAD: the tables below it are drawn from `Settings`.
REFERENCE_HEAD: Final = """\
<!-- Generated from hftcl/settings/; tests/config/test_docs.py says how to write it again. -->

# Configuration

`hftcl init` writes `hftcl.toml`, with every setting as a comment, at its default, and a template of `.env` for
secrets. It never overwrites a file. Without any file the defaults hold: the built-in synthetic market, and
everything is kept in the working folder.

## Which value holds

A flag, or an argument in Python, goes before an environment variable, which goes before `hftcl.toml`, which
goes before the default. `hftcl init --show` prints the value of each setting and where it came from.

**The file** is the one named by `--config`, else by `$HFTCL_CONFIG`, else `hftcl.toml` in the working folder. Where
there is none and the working folder is a home that was last used with another file, by `retrain`, `schedule` or
`trade`, that file holds, which is told: a command inside `/var/lib/hftcl` finds the file in `/etc`.
`paths.home`, `paths.env_file`, `files.folder` and `log.prometheus` are relative to the folder of that file, also
where their values come from a variable or a flag, or to the working folder where there is no file. A leading `~` is
your home folder.

**Environment.** The variable of `model.n_estimators` is `HFTCL_MODEL__N_ESTIMATORS`: the section, two
underscores, the setting, in capitals. Values are written as in TOML, but a text needs no quotes, and a list may
be separated by commas:

```sh
export HFTCL_MARKET__WATCHLIST=AAPL,MSFT
export HFTCL_MARKET__EXTENDED_HOURS=true
export HFTCL_FILES__COLUMNS='{{ ts = "datetime", close = "c" }}'
```

A variable that begins with `HFTCL_` and belongs to no setting is a fault, so that a misspelt one is not
ignored.

## Faults

All faults of the file, the environment and the arguments are told at once, a line each on stderr: where it is,
which setting, which value, what is allowed; for a name that does not exist, which one was probably meant.

```text
hftcl.toml, line 2: there is no setting model.n_estimator; did you mean model.n_estimators?
hftcl.toml, line 3: model.max_depth = 7.9, but it must be an integer from 1 to 64.
HFTCL_EXAM__SESSIONS: exam.sessions = "many", but it must be an integer from 2 to 1000.
```

| exit status | because |
| --- | --- |
| 78 | the configuration is invalid, may not be read, or the file named by `--config` or `$HFTCL_CONFIG` is missing |
| 1 | the disk cannot read it at the moment: it may be in order, so systemd starts the service again |
| 2 | file and environment are in order, and only a flag or an argument is wrong |

Types are strict: `7.0`, `"7"` and `true` are not integers, and `nan` and `inf` are not numbers.

## Sections of plug-ins

A plug-in, such as a source, a feed, a broker or a family of another author, may bring a section of its own, named after
it. Its settings are judged as those below are, with the same faults, the same variables (`HFTCL_ACME__CASH`) and the
same place in `hftcl init --show`, once `[market] source`, `[trade] feed`, `[trade] broker` or `[model] family` names
the plug-in. The section of one that is installed and not named stays in the file and is not judged. What each setting
means is in the plug-in's own documentation and in `hftcl init --show --json`. [plugins.md](plugins.md) shows how a
plug-in declares its section.

## Secrets

Keys and passwords are read from the environment, else from the credentials of a systemd unit
(`$CREDENTIALS_DIRECTORY`: a file of the secret's name, or a line of the file `env` there), else from the file
`.env` beside `hftcl.toml` (`paths.env_file`), never from `hftcl.toml`. `hftcl init --show` says only whether each
is set, and where. Let no other user read the file: `hftcl init` writes it with mode 0600. No log line, alert or
error shows a secret: it is replaced by its name.

```sh
# KEY=value a line; blank lines and comments are skipped; `export ` may stand before a key
POLYGON_API_KEY=abc123           # a bare value ends at a blank followed by #
SMTP_USER='single quotes keep everything as it is'
SMTP_PASSWORD="double quotes know \\" for a quote, \\\\ for a backslash and \\n for a line end"
```

Nothing is interpolated; of two lines with one key the later counts; an empty value is not set. A setting
(`HFTCL_...`) in this file is a fault: it is for secrets only.

| secret | meaning |
| --- | --- |
{secrets}

## Names of the guide

| in the guide | here |
| --- | --- |
{guide}

The constructor of `ContinuousLearning` takes the guide's names.

## Settings
"""
