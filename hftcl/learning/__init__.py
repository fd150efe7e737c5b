"""THE LOOP: what is due, and the stories that keep the model fresh."""
