"""Clients of Mercure 0.x that others made, for zero.test.js.

    zero.py mercure-publisher URL SECRET     publishes what comes on standard input, an update a line, and prints each id
    zero.py flask-mercure-sse URL SECRET     the same
    zero.py pymercure URL TOKEN              the same
    zero.py hub-url URL SECRET TOPIC PAYLOAD     prints what flask-mercure-sse would have a page subscribe to
    zero.py subscriptions URL SECRET TOPIC   prints what flask-mercure-sse learns of who is subscribed
    zero.py consume URL COUNT TOPIC…         prints "open", and then what pymercure gets, an event a line
"""

import json
import sys
import threading

import httpx
from flask import Flask
from flask_mercure_sse import MercureSSE
from mercure_publisher import MercureConfig, MercurePublisher
from pymercure.consumer import Consumer
from pymercure.message import Message
from pymercure.publisher.sync import SyncPublisher


def say(text):
    print(text, flush=True)


def flask(url, secret):
    app = Flask("app")
    return MercureSSE(app, hub=False, hub_url=url, subscriber_secret_key=secret, publisher_secret_key=secret)


def publish(updates, url, secret, by):
    if by == "mercure-publisher":
        config = MercureConfig(hub_url=url, publisher_jwt_key=secret, publish_topics=["https://example.com/{+any}"])
        with MercurePublisher(config, client=httpx.Client(trust_env=False)) as publisher:
            return [publisher.publish(**update) for update in updates]
    if by == "flask-mercure-sse":
        sse = flask(url, secret)
        with sse.app.app_context():
            return [sse.publish(**update) for update in updates]
    publisher = SyncPublisher(url, secret)
    message = lambda update: Message([update["topic"]], update["data"], None, update.get("id"), update.get("type"))
    return [publisher.publish(message(update)) for update in updates]


def consume(url, count, topics):
    done = threading.Event()
    left = int(count)

    def each(message):
        nonlocal left
        say(json.dumps({"id": message.message_id, "type": message.event_type, "data": message.data}))
        left -= 1
        if left == 0:
            done.set()

    consumer = Consumer(url, topics, each)
    consumer.daemon = True
    consumer.start_consumption()
    say("open")
    done.wait(20)


command, url, *rest = sys.argv[1:]
if command == "consume":
    consume(url, rest[0], rest[1:])
elif command == "hub-url":
    sse = flask(url, rest[0])
    with sse.app.app_context():
        say(sse.authentified_hub_url([rest[1]], payload=json.loads(rest[2])))
elif command == "subscriptions":
    sse = flask(url, rest[0])
    with sse.app.app_context():
        say(json.dumps(sse.get_subscriptions(rest[1])))
else:
    for id in publish([json.loads(line) for line in sys.stdin], url, rest[0], command):
        say(id)
