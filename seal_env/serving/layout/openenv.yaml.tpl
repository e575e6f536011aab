spec_version: 1
name: seal_env
version: @VERSION@
type: space
runtime: fastapi
app: server.app:app
port: 8000
validation:
  reward:
    range: [0.0, 1.0]
    oracle_tolerance: 0.0
    floor_margin: 0.1
  resources:
    cpu: 2.0
    memory_mb: 4096
    disk_mb: 8192
    episode_timeout_s: 300.0
  capabilities:
    verifier:
      kind: reward_channel
  types:
    tags: [finetuning, self-edits]
