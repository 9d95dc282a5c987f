"""Import labelled products, make datasets, and train, evaluate and deploy model versions."""
