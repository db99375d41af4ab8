"""From packets to mono samples at 16 kHz: tracks, channels, clocks, resampling, log-mel."""
