"""The search for a better policy, inside the training window."""
