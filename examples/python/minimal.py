"""The adder's stage `times_two`, as short as docs/wire-format.md allows: python minimal.py [DEPLOYMENT]"""

import json
import sys
import time

import boto3

name = sys.argv[1] if len(sys.argv) > 1 else "adder"
queue, sums = (boto3.resource("sqs").get_queue_by_name(QueueName=f"{name}--{stage}") for stage in ("times_two", "sum"))
table = boto3.resource("dynamodb").Table(f"{name}-scratchpad")
BOTH = {"version": 1, "deployment": name}
MAP, REDUCE = BOTH | {"kind": "map", "stage": "times_two"}, BOTH | {"kind": "reduce", "stage": "sum"}
KEPT = ("arrayId", "generation", "packetId", "arrayLength", "packetContains", "packetSkipped", "packetLeftOut")
ADD = "ADD arrived :slot SET expected = if_not_exists(expected, :all), root = if_not_exists(root, :no)"
ONCE = {"ConditionExpression": "attribute_not_exists(retired)", "ReturnValues": "ALL_NEW"}
while True:
    done = queue.receive_messages(MaxNumberOfMessages=10, WaitTimeSeconds=20)
    for message in list(done):
        try:
            m = json.loads(message.body)
            ints = [m["fanIn"], m["packetContains"], *m["packetValue"], sum(m["packetValue"])]
            if m | MAP != m or m["fanIn"] > 64 or len(m["packetValue"]) != ints[1] or any(type(i) is not int or not -(2**62) <= i < 2**62 for i in ints):
                raise ValueError("not a packet that this stage can do")
            group, slot = divmod(int(m["packetId"].removeprefix("0/")), m["fanIn"])
            key = {"groupId": f"{m['arrayId']}#{m['generation']}#sum#1#{group}", "slot": "group"}
            value = json.dumps({k: m[k] for k in KEPT if k in m} | {"packetValue": 2 * ints[-1]})
            new = {":slot": {slot}, ":all": -1, ":no": False, ":value": value, ":ttl": int(time.time()) + 30 * 86400}
            add = f"{ADD}, s{slot} = if_not_exists(s{slot}, :value), expiresAt = :ttl"
            item = table.update_item(Key=key, UpdateExpression=add, ExpressionAttributeValues=new, **ONCE)["Attributes"]
            if len(item["arrived"]) >= (m["fanIn"] if item["expected"] == -1 else item["expected"]):
                same = {k: m[k] for k in ("arrayId", "generation", "fanIn")}
                reduce = REDUCE | same | {"level": 1, "group": group}
                sums.send_message(MessageBody=json.dumps(reduce))
        except table.meta.client.exceptions.ConditionalCheckFailedException:
            pass  # the group is reduced already
        except Exception as error:
            print(f"comes back: {error!r}", file=sys.stderr)
            done.remove(message)
    if done:
        queue.delete_messages(Entries=[{"Id": m.message_id, "ReceiptHandle": m.receipt_handle} for m in done])
