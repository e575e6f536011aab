---
title: SelfEdit-v0
emoji: 📝
colorFrom: blue
colorTo: green
sdk: docker
pinned: false
app_port: 8000
tags:
  - openenv
---

# SelfEdit-v0

The environment of [seal-env](https://arxiv.org/abs/2506.10943) in which a language model learns to write its own
finetuning data: task `@TASK@`, learner `@MODEL@`. An action is one text, the self-edit; the learner is
finetuned on it and asked held-out questions about the context; the reward is by default the share of
right answers.

```python
from seal_env.serving.client import SelfEditClient
from seal_env.serving.models import SelfEditAction

headers = {"Authorization": "Bearer TOKEN"}
with SelfEditClient(base_url="https://OWNER-NAME.hf.space", headers=headers).sync() as client:
    context = client.reset(seed=0).observation.context
    print(client.step(SelfEditAction(text=context)).reward)
```

The server asks for a token: set the secret `SEAL_ENV_TOKEN`. Settings are in `seal_env.json`.
