"""The words that a screen uses as if they were known, a sentence each, and the page that says more. Pure.

Screens explain a word by its sentence where it first appears; `hftcl docs WORD` prints sentence and page.
"""

from typing import Final, NamedTuple


class Word(NamedTuple):
    """One word. page: of docs/, without its ending; heading: of that page, "" for the whole of it."""

    meaning: str
    page: str
    heading: str = ""


_JUDGING: Final = "judging"
WORDS: Final = {
    "exam": Word(
        "the newest sessions, which no compared model has seen and each trades on paper", _JUDGING, "The bars"
    ),
    "verdict": Word("what the exam decided: deployed, rejected or inconclusive", _JUDGING, "Promote"),
    "champion": Word("the model that serves, scored on the same sessions as its challenger", _JUDGING, "Promote"),
    "challenger": Word("the model that was just trained, and wants to serve", _JUDGING, "Promote"),
    "policy": Word(
        "the settings that models are trained and trade by; other ones begin another record", _JUDGING, "Edge"
    ),
    "record": Word("what the policy earned on sessions that the model of their day had not seen", _JUDGING, "Edge"),
    "edge": Word("whether the record is good enough to trade real money; no single exam decides it", _JUDGING, "Edge"),
    "stand aside": Word("the bot trades no real money until the record lets it; paper money it does", _JUDGING, "Edge"),
    "P(edge)": Word("the probability that the policy earns more than its costs, by its record", _JUDGING, "Edge"),
    "P(better)": Word("the probability that the challenger is truly better than the champion", _JUDGING, "Promote"),
    "PSR": Word("the probability that the true Sharpe ratio is above 0, by these sessions", _JUDGING, "The figures"),
    "DSR": Word("the same, where the best of several tries was taken", _JUDGING, "Tries"),
    "Sharpe ratio": Word("mean net P&L of a session over its spread, for a year", _JUDGING, "The figures"),
    "turnover": Word("what was traded, in multiples of the capital", _JUDGING, "The figures"),
    "break-even cost": Word("what a trade may cost until nothing is left of the gross P&L", "explain"),
    "slippage": Word("what fills cost beyond the price that was decided on", "report", "What the figures are"),
    "drawdown": Word("how far the equity fell from its highest point", "report", "What the figures are"),
    "twin": Word("the examined model whose refit on all sessions serves", _JUDGING, "Promote"),
    "pinned": Word("no retrain replaces the model that serves until `hftcl unpin`", "commands", "hftcl unpin"),
    "shadow": Word("a second model that decides beside the bot, with no money", "trading", "A new model"),
    "drift": Word("features that no longer look as they did in training", _JUDGING, "When a retrain is due"),
    "SYNTHETIC": Word("bars of the built-in market, which is invented: its figures promise nothing", "quickstart"),
    "plain rule": Word('the setting policy = "seed": a higher Sharpe ratio suffices', _JUDGING, "Promote"),
}


def describe_word(word: str) -> str:
    """Return the line that explains `word` on a screen.

    >>> describe_word("stand aside")
    'stand aside: the bot trades no real money until the record lets it; paper money it does'
    """
    return f"{word}: {WORDS[word].meaning}"
