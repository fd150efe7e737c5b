"""The command `init`: the example of the settings, or what is in force."""

import os
from pathlib import Path
from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, format_example, require_printable, tell
from hftcl.cli.invocation import Invocation, now
from hftcl.home import Home


@app.command(epilog=format_example("init --files ~/bars"))
def init(
    ctx: typer.Context,
    show: Annotated[
        bool, typer.Option("--show", help="Print the effective settings and where each came from; write nothing.")
    ] = False,
    files: Annotated[
        Path | None, typer.Option("--files", metavar="FOLDER", help="Set it up for this folder of minute bars.")
    ] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take an older script's model_metadata.csv and models into the archive.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented hftcl.toml and a .env template.

    A file that exists is never overwritten.
    """
    from hftcl import config, views
    from hftcl.views import installation

    if show:
        views.show(config.list_effective(ctx.obj.read_configuration(), os.environ), installation.draw_settings, as_json)
    elif adopt:
        _adopt(ctx.obj, as_json)
    elif files is not None:
        _init_from(ctx.obj, require_printable(files), as_json)
    else:
        views.show(config.write_example(Path.cwd()), installation.draw_written, as_json)


def _adopt(invocation: Invocation, as_json: bool) -> None:
    from hftcl import views
    from hftcl.archive.adoption import adopt
    from hftcl.archive.deployment import ModelArchive
    from hftcl.views import installation

    home = Home.of(invocation.read_configuration().settings).root
    views.show(adopt(ModelArchive(home), now), installation.draw_adoption, as_json)


def _init_from(invocation: Invocation, folder: Path, as_json: bool) -> None:
    """Write the settings that read `folder`, and say what is left to decide; nothing of that is assumed."""
    from hftcl import config, views
    from hftcl.market.inspect import inspect, propose
    from hftcl.settings import Settings
    from hftcl.views import inspect as view
    from hftcl.views import installation
    from hftcl.views.progress import build_listener

    reports = inspect(Settings(), folder.absolute(), on_event=build_listener(invocation.verbosity))
    changes, questions = propose(reports, str(folder))
    written = config.write_example(Path.cwd(), changes)
    views.show(written, installation.draw_written, as_json, is_for_folder=True)
    if as_json:
        for question in questions:  # the document names the files; what is left to a person is told beside it
            tell(f"to decide: {question}")
    else:
        view.draw_questions(questions)
