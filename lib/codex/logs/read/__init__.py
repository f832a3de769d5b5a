"""What the commands, the page and the tools ask of a database: all SQL of `codex.logs` stands in this room.

Each function takes a connection and gives frozen records, so that another engine can stand behind the same names.
"""
