"""The household file: its tabs, who moves in and out, keys under which others know it."""
