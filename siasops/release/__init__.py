"""Releases of the application: shipped, judged, watched on one host, then host by host; and back."""
