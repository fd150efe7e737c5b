"""From target positions to orders and fills."""
