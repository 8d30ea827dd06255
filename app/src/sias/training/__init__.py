"""The training instance: imaginary persons, data to try things on, a reset."""
