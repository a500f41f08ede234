"""The dashboard: a page that every node serves at /ui/, and that asks that node over the HTTP API."""
