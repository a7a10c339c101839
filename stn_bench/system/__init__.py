"""What the house stands on: errors, text, numbers, files, locks, the machine, and where things are."""
