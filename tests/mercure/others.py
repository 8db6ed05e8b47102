"""Two clients that others made, for others.test.js: httpx-sse subscribes, mercure-publisher publishes.

    others.py subscribe URL COUNT [TOKEN]   prints "open", then an event a line, as JSON
    others.py publish URL [TOKEN]           publishes what comes on standard input, an update a line, and prints each id, or the status
                                            that it was refused with; with this token instead of those that it makes itself
"""

import asyncio
import json
import sys

import httpx
from httpx_sse import connect_sse
from mercure_publisher import AsyncMercurePublisher, MercureConfig, MercurePublisher, MercurePublishError


def say(text):
    print(text, flush=True)


def subscribe(url, count, token=None):
    timeout = httpx.Timeout(20, read=20)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(timeout=timeout, trust_env=False, headers=headers) as client, connect_sse(client, "GET", url) as source:
        source.response.raise_for_status()
        say("open")
        for event in source.iter_sse():
            say(json.dumps({"id": event.id, "event": event.event, "data": event.data, "retry": event.retry}))
            count -= 1
            if count == 0:
                return


def publish(url, token=None):
    key = "!ChangeThisMercureHubJWTSecretKey!"
    config = MercureConfig(hub_url=url, publisher_jwt_key=key, publish_topics=["*"])
    updates = [json.loads(line) for line in sys.stdin]
    half = len(updates) // 2

    # Its tokens are of the protocol's 0.x, and it takes no others; a client of one's own may show another.
    def show(request):
        if token:
            request.headers["Authorization"] = f"Bearer {token}"

    async def show_later(request):
        show(request)

    with MercurePublisher(config, client=httpx.Client(trust_env=False, event_hooks={"request": [show]})) as publisher:
        for update in updates[:half]:
            try:
                say(publisher.publish(**update))
            except MercurePublishError as error:
                say(error.status_code)

    async def rest():
        client = httpx.AsyncClient(trust_env=False, event_hooks={"request": [show_later]})
        async with AsyncMercurePublisher(config, client=client) as publisher:
            for update in updates[half:]:
                try:
                    say(await publisher.publish(**update))
                except MercurePublishError as error:
                    say(error.status_code)

    asyncio.run(rest())


if sys.argv[1] == "subscribe":
    subscribe(sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
else:
    publish(*sys.argv[2:])
