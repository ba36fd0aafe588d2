"""Relations between regions or words: rules, a learnt predictor, its recall, readers of annotations."""
