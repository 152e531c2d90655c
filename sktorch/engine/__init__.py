"""How training runs. Knows torch, and nothing of scikit-learn."""
