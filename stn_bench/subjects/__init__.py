"""What can be studied. The wings never import a subject; they find it by its name."""
