"""The walk, what it looks at ahead, and what comes of it: the quantized network."""
