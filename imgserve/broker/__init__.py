"""The broker: takes jobs, keeps them, hands them to workers by credit, says what became of them.

`core` decides (pure), `journal` remembers (SQLite in a thread), `server` talks (sockets, lanes).
"""
