"""The starter models behind LitServe: `python -m benchmarks.rivals.on_litserve PORT`."""

import sys
from typing import Any

import litserve
from fastapi import Request

from benchmarks.rivals.starters import BATCH, WAIT, WORKERS, Starters, Upload


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.starters = Starters()

    def decode_request(self, request: Request) -> Upload:
        return request["title"], request["description"], request["image"].file.read()

    def batch(self, inputs: list[Upload]) -> list[Upload]:
        return inputs

    def predict(self, x: list[Upload]) -> list[dict[str, Any]]:
        return self.starters.answer(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=WAIT)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, timeout=120, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="error"
    )
