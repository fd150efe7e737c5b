"""THE WORLD: bars, sessions, the store and the sources they come from."""
