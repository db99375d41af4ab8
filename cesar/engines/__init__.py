"""The interface to speech models, and the engines that implement it."""
