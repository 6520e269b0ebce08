"""Judge answers with a model behind an endpoint."""
