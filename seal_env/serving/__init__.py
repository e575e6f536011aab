"""`SelfEdit-v0` as an OpenEnv server, its client, and the folder from which a hub runs it."""
