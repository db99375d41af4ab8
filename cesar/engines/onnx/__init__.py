"""Whisper's decoder on ONNX Runtime, for greedy search on a CPU."""
