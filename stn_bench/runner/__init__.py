"""Takes a plan to its end: jobs, the queue, workers that train, and what they leave behind."""
