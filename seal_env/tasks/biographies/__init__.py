"""Task `biographies`: made-up people."""
