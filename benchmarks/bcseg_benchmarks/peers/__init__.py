"""What an engineer would use instead: each in the form that its own documentation recommends."""
