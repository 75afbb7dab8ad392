"""The series of a protocol, one module per contrast: signal, files and truth of each."""
