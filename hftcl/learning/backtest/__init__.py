"""The loop over history: did retraining pay."""
