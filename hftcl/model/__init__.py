"""THE MIND: features, target and the families that learn from them."""
