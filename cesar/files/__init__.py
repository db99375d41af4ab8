"""Reading and writing files safely: readable recordings, atomic writes, private modes, full disks."""
