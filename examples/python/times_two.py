"""The adder's stage `times_two` in Python, by docs/wire-format.md and nothing else: python times_two.py [DEPLOYMENT]"""

import json, sys  # noqa: E401
from contextlib import suppress

from stage import ATTEMPTS, Refused, db, in_days, serve, sqs, url

ADDER = (sys.argv[1:] or ["adder"])[0]
SUM, PAD, Taken = url(f"{ADDER}--sum"), f"{ADDER}-scratchpad", db.exceptions.ConditionalCheckFailedException


def times_two(n, item):
    if type(n) is not int or not -(2**62) <= n < 2**62:
        raise Refused(f"{str(n)[:99]} times two is no 64-bit integer", item)
    return 2 * n


def fold(message):
    """The packet, with one partial result in the place of its items."""
    if len(message["packetValue"]) != message["packetContains"]:
        raise Refused("the message contradicts itself: packetContains is not the length of packetValue")
    total = sum(times_two(n, item) for item, n in enumerate(message["packetValue"], message.get("packetOffset", 0)))
    if not -(2**63) <= total < 2**63:
        raise Refused(f"the sum {total} is no 64-bit integer")
    kept = ("arrayId", "generation", "packetId", "arrayLength", "packetContains", "packetSkipped", "packetLeftOut")
    return json.dumps({name: message[name] for name in kept if name in message} | {"packetValue": total})


def work(message, attempt):
    """Puts the partial result into its slot. Where the group is complete then, asks for its reduction."""
    group, slot = divmod(int(message["packetId"].split("/")[1]), message["fanIn"])
    key, own = {"S": f"{message['arrayId']}#{message['generation']}#sum#1#{group}"}, f"s{slot}"
    at = {"TableName": PAD, "Key": {"groupId": key, "slot": {"S": "group"}}}
    if attempt > ATTEMPTS and own not in db.get_item(**at, ConsistentRead=True).get("Item", {}):
        raise Refused(f"delivered {attempt} times and never finished")
    packet = fold(message)
    value = {"S": packet}
    if slot >= 64 or len(packet) > 512:
        item = {"groupId": key, "slot": {"S": f"slot#{slot:010}"}, "value": value, "expiresAt": in_days(30)}
        with suppress(Taken):
            db.put_item(TableName=PAD, Item=item, ConditionExpression="attribute_not_exists(groupId)")
        value = {"NULL": True}
    untold = "expected = if_not_exists(expected, :untold), root = if_not_exists(root, :no)"
    update = f"ADD arrived :slot SET {untold}, {own} = if_not_exists({own}, :value), expiresAt = :expires"
    values = {":slot": {"NS": [str(slot)]}, ":untold": {"N": "-1"}, ":no": {"BOOL": False}, ":value": value}
    with suppress(Taken):  # Refused: the group is retired, and nothing is left to do.
        group_item = db.update_item(
            **at,
            UpdateExpression=update,
            ConditionExpression="attribute_not_exists(retired)",
            ExpressionAttributeValues=values | {":expires": in_days(30)},
            ReturnValues="ALL_NEW",
        )["Attributes"]
        expected = int(group_item["expected"]["N"])
        if len(group_item["arrived"]["NS"]) >= (message["fanIn"] if expected < 0 else expected):
            reduce = {name: message[name] for name in ("version", "deployment", "arrayId", "generation", "fanIn")}
            reduce |= {"kind": "reduce", "stage": "sum", "level": 1, "group": group}
            sqs.send_message(QueueUrl=SUM, MessageBody=json.dumps(reduce))


serve(ADDER, "times_two", "map", work)
