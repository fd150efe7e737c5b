"""The command `docs`: what a word means."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, complete_words, format_example


@app.command(epilog=format_example("docs edge"))
def docs(
    word: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD]",
            help="A word of a screen, a command, a setting or a page.",
            autocompletion=complete_words,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a word means, and print the page that tells more.

    Without WORD: the words and the pages. Reads the installed documentation, nothing else.
    """
    from hftcl.manual.pages import explain_word, list_pages
    from hftcl.manual.words import WORDS
    from hftcl.views import manual, show

    if not word:
        meanings = {name: entry.meaning for name, entry in WORDS.items()}
        show({"words": meanings, "pages": list_pages()}, manual.draw_words, as_json)
    else:
        show(explain_word(" ".join(word)), manual.draw_explanation, as_json)
