"""Drives a server through the public openpi-client; runs in that package's own environment.

    python openpi_robot.py PORT STEPS [TOKEN]

Prints one JSON object: what the client saw.
"""

import json
import sys

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy


def main(port, steps, token=None):
    policy = WebsocketClientPolicy("127.0.0.1", int(port), api_key=token)
    seen = {"numpy": np.__version__, "metadata": policy.get_server_metadata()}
    images = np.random.default_rng(0).integers(0, 255, (int(steps), 64, 64, 3), np.uint8)
    observations = [
        {
            "observation/image": image,
            "observation/state": np.zeros(8, np.float32),
            "prompt": "pick up the red block",
        }
        for image in images
    ]
    seen["actions"] = [
        policy.infer(observation)["actions"][0].tolist() for observation in observations
    ]
    try:
        policy.infer({**observations[0], "observation/image": images[0].astype(np.float32)})
    except RuntimeError as error:
        seen["refusal"] = str(error)
    policy.infer({"reset": np.bool_(True)})
    policy.reset()
    chunks = ActionChunkBroker(policy, action_horizon=1)
    replies = [chunks.infer(observation) for observation in observations]
    seen["broker"] = [reply["actions"].tolist() for reply in replies]
    seen["fields"] = {name: list(value.shape) for name, value in replies[-1]["fields"].items()}
    seen["timing"] = replies[-1]["server_timing"]
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
