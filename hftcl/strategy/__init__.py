"""THE HAND: from prediction to position, and what trading costs. Pure."""
