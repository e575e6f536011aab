"""The embedded models: weights and cards. `seal_env.pretraining` made them."""
