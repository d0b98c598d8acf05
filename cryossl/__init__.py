"""Self-training for particle segmentation in cryo-EM, as one tracked experiment."""
