"""Data sets that the tools draw: digits, figures with keypoints, videos of moving digits."""
