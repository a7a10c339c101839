"""What may be said of a study: verdicts, looks, claims, caveats, power and cost. Pure."""
