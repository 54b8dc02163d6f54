"""A small Django site to try preforkd with: pages, a form, a login and a session."""
