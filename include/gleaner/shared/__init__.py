"""What all workers share about an embedding endpoint: how much may be asked of it, and whether it works at all."""
