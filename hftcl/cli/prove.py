"""The command `prove`: nothing looks ahead."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, AsOf, app, format_example


@app.command(epilog=format_example("prove --cases 50"))
def prove(
    ctx: typer.Context,
    cases: Annotated[int, typer.Option("--cases", min=1, metavar="N", help="Random cut points.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the cut points.")] = 0,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Prove on your own bars that nothing looks ahead.

    Features, positions and labels are compared, with later bars and without. Changes nothing.
    """
    from hftcl.views import loop, show

    report = ctx.obj.build_learning().prove(cases=cases, seed=seed, as_of=as_of)
    show(report, loop.draw_proof, as_json)
    raise typer.Exit(0 if report.proved else 1)
