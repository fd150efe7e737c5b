"""THE BOT: one decision a minute with the production model, its orders, and the ledger that accounts for them."""
