"""The running process: live, replay, status, stop."""
