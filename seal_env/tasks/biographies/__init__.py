"""The task `biographies`: made-up people."""
