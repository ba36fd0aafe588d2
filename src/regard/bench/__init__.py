"""Speed: how fast each model scores, encodes and trains, beside what the machine could do."""
