"""PyTriton: one model with Triton's dynamic batcher, or one for short videos and one for long ones."""

from typing import Any

import numpy as np
from pytriton.model_config import DynamicBatcher, ModelConfig, QueuePolicy, Tensor, TimeoutAction
from pytriton.triton import Triton, TritonConfig

from tests.benchmarks.peers.device import device, settings

INPUTS = [
    Tensor(name="prompt", dtype=bytes, shape=(1,)),
    Tensor(name="seed", dtype=np.int64, shape=(1,)),
    Tensor(name="steps", dtype=np.int64, shape=(1,)),
]


class Videos:
    """A batch of wishes in, their MP4s out: what PyTriton calls."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._device = device(told)

    def __call__(self, requests: list[Any]) -> list[dict[str, np.ndarray]]:
        # Triton hands over a batch as a list of requests; each here holds one video.
        wishes = [(one["prompt"][0, 0].decode(), int(one["seed"][0, 0]), int(one["steps"][0, 0])) for one in requests]
        return [{"mp4": np.array([[video]], dtype=object)} for video in self._device.make(wishes)]


def main() -> None:
    told = settings()
    policy = QueuePolicy(timeout_action=TimeoutAction.REJECT, default_timeout_microseconds=int(1e6 * told["timeout_s"]))
    batcher = DynamicBatcher(
        max_queue_delay_microseconds=1000 * told["wait_ms"],
        priority_levels=2 if told["layout"] == "priority" else 0,
        default_priority_level=2 if told["layout"] == "priority" else 0,
        default_queue_policy=policy if told["timeout_s"] else None,
    )
    grpc, metrics = told["other_ports"]
    config = TritonConfig(http_port=told["port"], grpc_port=grpc, metrics_port=metrics, http_address="127.0.0.1")
    with Triton(config=config) as triton:
        for name in ("short", "long") if told["layout"] == "split" else ("videos",):
            triton.bind(
                model_name=name,
                infer_func=[Videos(told) for _ in range(told["workers"])],
                inputs=INPUTS,
                outputs=[Tensor(name="mp4", dtype=bytes, shape=(1,))],
                config=ModelConfig(max_batch_size=told["batch"], batcher=batcher),
                strict=False,
            )
        triton.serve()


if __name__ == "__main__":
    main()
