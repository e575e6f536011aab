"""One script per measured claim of the README and the pages. Not installed: run from a checkout."""
