"""What a word of the screens means, and the page that says more. Light: loads nothing but Python."""
