"""Features: SigLIP and InternVideo2 outputs of decoded clips."""
