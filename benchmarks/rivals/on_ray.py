"""The starter models behind Ray Serve: `python -m benchmarks.rivals.on_ray PORT`."""

import asyncio
import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.rivals.starters import BATCH, WAIT, WORKERS, Starters, Upload


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=100, ray_actor_options={"num_cpus": 1})
class Api:
    def __init__(self) -> None:
        self.starters = Starters()

    async def __call__(self, request: Request) -> dict[str, Any]:
        async with request.form() as form:
            photo = form["image"]
            upload = str(form["title"]), str(form["description"]), await photo.read()
            answer: dict[str, Any] = await self.answer(upload)
            return answer

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)
    async def answer(self, uploads: list[Upload]) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self.starters.answer, uploads)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1]), "location": "HeadOnly"})
    serve.run(Api.bind(), route_prefix="/predict")  # type: ignore[attr-defined]
    signal.pause()
