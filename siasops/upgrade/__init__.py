"""Debian's next release on every host, one after the other, while users notice nothing; and the way back."""
