"""What the ledger earned, and whose work it was."""
