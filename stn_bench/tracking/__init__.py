"""What was trained: records, their identity, and the stores and files that hold them."""
