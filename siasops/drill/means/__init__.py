"""What several faults share: how something is broken, and how it is mended again."""
