"""The link to TRL's trainers."""
