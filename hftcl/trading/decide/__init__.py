"""From a minute of bars to target positions."""
