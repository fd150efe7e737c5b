"""One file a command: what a person or the schedule may ask of the loop."""
