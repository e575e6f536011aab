[build-system]
requires = ["setuptools>=80"]
build-backend = "setuptools.build_meta"

[project]
name = "openenv-seal-env"
version = "@VERSION@"
description = "SelfEdit-v0: language models that learn to write their own finetuning data"
requires-python = ">=3.11"
dependencies = ["openenv==0.10.0", "@REQUIREMENT@"]

[project.scripts]
server = "seal_env_space.server.app:main"

[tool.setuptools]
packages = ["seal_env_space", "seal_env_space.server"]
package-dir = { "seal_env_space" = ".", "seal_env_space.server" = "server" }

[tool.setuptools.package-data]
seal_env_space = ["seal_env.json"]
