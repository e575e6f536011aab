"""Scripts that measure what the README claims. Not installed; run them from a checkout."""
