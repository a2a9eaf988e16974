"""The world outside: settings, tracking, storage, cluster."""
