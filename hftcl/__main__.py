"""`python -m hftcl` is `hftcl`."""

from hftcl.cli import main

main()
