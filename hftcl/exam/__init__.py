"""THE JUDGE: who is examined on which bars, what the positions earned, what is decided. Pure."""
