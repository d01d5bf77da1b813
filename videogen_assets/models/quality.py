"""All gates of a version, measured once, kept as evidence and written to MLflow."""
