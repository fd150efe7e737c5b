"""What was decided, ordered and filled: the ledger of a book."""
