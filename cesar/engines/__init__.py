"""The one seam to models: the engines, and the weights they run on."""
