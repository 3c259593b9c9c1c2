"""What keeps state between calls: compiled code, its cache, threads, memory, programs."""
