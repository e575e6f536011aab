"""``seal-env adapt`` and ``chat``: a model that knows one's own documents."""
