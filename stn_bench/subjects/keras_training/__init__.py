"""How a Keras model is trained: what its runs depend on beside the user's own code."""
