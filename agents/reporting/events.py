"""Metrics per round for TensorBoard, written without its background thread.

The thread would hide a full disk and print a traceback of its own. One small file per round,
written atomically, also means that a round that is repeated after a stop replaces its metrics
instead of adding them a second time.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from seal_agents.run_folder import RunFolder


def write_scalars(run: RunFolder, round_: int, numbers: Mapping[str, float]) -> None:
    """Writes the metrics of a round as a TensorBoard event file.

    Raises:
        UserError: The file cannot be written.
    """
    content = io.BytesIO()
    writer = RecordWriter(content)
    now = time.time()
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
    event = Event(wall_time=now, step=round_, summary=Summary(value=values))
    writer.write(event.SerializeToString())
    run.write_bytes(f"events.out.tfevents.round-{round_:06d}", content.getvalue())
