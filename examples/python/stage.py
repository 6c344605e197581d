"""What every stage in Python does, by docs/wire-format.md: receives, reads, deletes, and buries what cannot be done."""

import base64, json, pathlib, random, re, time, uuid  # noqa: E401

import boto3, jsonschema  # noqa: E401

ATTEMPTS = 5
SCHEMA = pathlib.Path(__file__).parents[2] / "docs" / "wire-format.schema.json"
MESSAGE = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
sqs, db = boto3.client("sqs"), boto3.client("dynamodb")


class Refused(Exception):
    """What repeating cannot mend: a sentence, and the item of the array that it is about, where that is known."""


def url(queue):
    return sqs.get_queue_url(QueueName=queue)["QueueUrl"]


def in_days(days):
    return {"N": str(int(time.time()) + days * 86_400)}


def serve(deployment, stage, kind, work):
    """Without end. `work(message, attempt)` returns once all that the message causes is durable, and not before."""
    queue, dead = url(f"{deployment}--{stage}"), url(f"{deployment}--{stage}--dead")
    count = "ApproximateReceiveCount"
    poll = {"QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20, "MessageSystemAttributeNames": [count]}
    while True:
        done = []
        for record in sqs.receive_message(**poll).get("Messages", []):
            receipt, body, attempt = record["ReceiptHandle"], record["Body"], int(record["Attributes"][count])
            message = None
            try:
                message = read(body, deployment, stage, kind)
                work(message, attempt)
            except Exception as error:
                if attempt < ATTEMPTS and not isinstance(error, Refused):
                    wait = round(random.uniform(0, min(300, 2 ** (attempt - 1))))
                    sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=wait)
                    continue
                reason = describe(error, message, attempt)
                if message:
                    record_failure(deployment, stage, message, reason)
                why = {"reason": {"DataType": "String", "StringValue": json.dumps(reason)}}
                sqs.send_message(QueueUrl=dead, MessageBody=body, MessageAttributes=why)
            done.append({"Id": str(len(done)), "ReceiptHandle": receipt})
        if done:
            sqs.delete_message_batch(QueueUrl=queue, Entries=done)


def read(body, deployment, stage, kind):
    try:
        message = json.loads(base64.b64decode(body[7:]) if body.startswith("base64:") else body)
        MESSAGE.validate(message)
    except jsonschema.ValidationError as error:
        raise Refused(f"the message cannot be read: {error.json_path}: {error.message[:999]}") from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"the message cannot be read: {error}") from error
    if int(message["generation"][-3:], 16) != message["fanIn"]:
        raise Refused(f"the message cannot be read: fanIn {message['fanIn']} is not that of its generation")
    if message["deployment"] != deployment:
        raise Refused(f"the message belongs to stage {message['stage']} of deployment {message['deployment']}")
    if (message["kind"], message["stage"]) != (kind, stage):
        raise Refused(f"the message is no {kind} message for stage {stage}")
    return message


def describe(error, message, attempt):
    """The reason that stands beside a dead letter."""
    text, *item = error.args if isinstance(error, Refused) else [f"{type(error).__name__}: {error}"[:2000]]
    what = {"item": item[0], "error": text} if item else {"error": text}
    tried = {"number": attempt, "at": time.time_ns() // 1_000_000, **what}
    return {"id": str(uuid.uuid4()), "attempts": [tried], **what} if message else what


def record_failure(deployment, stage, message, reason):
    """First the mark at the run, then the failure: whoever waits for the run looks for failures where there is a mark."""
    run, generation, name = message["arrayId"], message["generation"], f"group {message.get('level')}/{message.get('group')}"
    if message["kind"] == "map":
        name = f"packet {message['packetId'].split('/')[1]}"
    try:
        db.update_item(
            TableName=f"{deployment}-results",
            Key={"arrayId": {"S": run}},
            UpdateExpression="SET failures = :yes, expiresAt = :expires",
            ConditionExpression="attribute_exists(arrayId) AND generation = :generation",
            ExpressionAttributeValues={":yes": {"BOOL": True}, ":expires": in_days(51), ":generation": {"S": generation}},
        )
    except db.exceptions.ConditionalCheckFailedException:
        return  # Nobody knows the run, or its id is another one's by now.
    padded = re.sub("[0-9]+", lambda number: number[0].zfill(20), name)
    texts = {"groupId": f"{run}#{generation}#dead", "slot": f"{stage}#{padded}", "stage": stage, "message": name}
    item = {key: {"S": text} for key, text in (texts | {key: reason[key] for key in ("id", "error")}).items()}
    item |= {"since": {"N": str(time.time_ns())}, "expiresAt": in_days(30)}
    item |= {"attempts": {"L": [{"S": json.dumps(tried)} for tried in reason["attempts"]]}}
    item |= {key: {"N": str(reason[key])} for key in ("item",) if key in reason}
    db.put_item(TableName=f"{deployment}-scratchpad", Item=item)
