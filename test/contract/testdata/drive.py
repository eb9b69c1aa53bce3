"""Drives a hive with nothing but its contract.

Known beforehand: where the contract is (/openapi.json), the operationIds and
operations that it speaks of, and what the members of its answers mean. Paths,
methods, the names and places of parameters and the required members of bodies
are read from the contract.
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


class Hive:
    def __init__(self, base):
        with urllib.request.urlopen(base + "/openapi.json", timeout=30) as answer:
            self.doc = json.load(answer)
        self.base = urllib.parse.urljoin(base, self.doc["servers"][0]["url"]).rstrip("/")

    def deref(self, node):
        while "$ref" in node:
            target = self.doc
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def operation(self, operation_id):
        for path, item in self.doc["paths"].items():
            for method, op in item.items():
                if method != "parameters" and op["operationId"] == operation_id:
                    params = [self.deref(p) for p in op.get("parameters", [])]
                    shared = [self.deref(p) for p in item.get("parameters", [])]
                    return method.upper(), path, op, params, shared
        raise SystemExit("the contract has no operation " + operation_id)

    def body(self, operation_id, tag, *values):
        """The body of an operation: its required members in the order of the contract."""
        schema = self.deref(self.operation(operation_id)[2]["requestBody"]["content"]["application/json"]["schema"])
        for form in map(self.deref, schema["anyOf"]):
            if "discriminator" in form:
                by = form["discriminator"]
                wanted = self.deref({"$ref": by["mapping"][tag]})
                names = [n for n in wanted["required"] if n != by["propertyName"]]
                assert len(names) == len(values), (tag, names)
                return {by["propertyName"]: tag, **dict(zip(names, values))}
        raise SystemExit("no discriminator in the body of " + operation_id)

    def open(self, operation_id, *path_values, body=None, **places):
        """Sends a request. places: one value for the operation's only parameter in that place."""
        method, path, op, own, shared = self.operation(operation_id)
        in_path = [p["name"] for p in shared + own if p["in"] == "path"]
        assert len(in_path) == len(path_values), (operation_id, in_path)
        for name, value in zip(in_path, path_values):
            path = path.replace("{" + name + "}", urllib.parse.quote(str(value), safe=""))
        headers, query = {}, {}
        for place, value in places.items():
            (name,) = [p["name"] for p in own if p["in"] == place]
            {"header": headers, "query": query}[place][name] = value
        url = self.base + path + ("?" + urllib.parse.urlencode(query) if query else "")
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = next(iter(op["requestBody"]["content"]))
        while True:
            request = urllib.request.Request(url, data, headers, method=method)
            try:
                answer = urllib.request.urlopen(request, timeout=60)
            except urllib.error.HTTPError as refused:
                answer = refused
            said = self.deref(op["responses"][str(answer.status)])
            if answer.status not in (429, 503):
                return answer, said
            time.sleep(int(answer.headers["Retry-After"]))

    def call(self, operation_id, *path_values, status, **rest):
        """Sends a request and returns its JSON, which has every member the contract requires."""
        answer, said = self.open(operation_id, *path_values, **rest)
        with answer:
            assert answer.status == status, (operation_id, answer.status, answer.read())
            media = answer.headers.get_content_type()
            value = json.load(answer)
        for name in self.deref(said["content"][media]["schema"])["required"]:
            assert name in value, (operation_id, name, value)
        return value

    def events(self, job, last=None, most=None):
        """The events of a job after the id last, at most so many, as (id, type, data)."""
        answer, said = self.open("followJob", job, **({"header": last} if last else {}))
        with answer:
            assert answer.status == 200, answer.status
            media = said["content"][answer.headers.get_content_type()]
            required = self.deref({"$ref": media["x-event-schema"]})["required"]
            fields = {}
            for line in answer:
                line = line.decode().rstrip("\n")
                if line.startswith(":"):
                    continue
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                if not fields:
                    continue
                data = json.loads(fields["data"])
                assert all(name in data for name in required), data
                yield fields["id"], fields["event"], data
                most = most and most - 1
                if most == 0 or fields["event"] == "end":
                    return
                fields = {}
        raise SystemExit("the stream was cut")


def main(base, worker_type):
    hive = Hive(base)

    # Spawn, and follow it over two connections.
    job = hive.call("submitJob", status=202, body=hive.body("submitJob", "worker_spawn", worker_type))["job_id"]
    seen = list(hive.events(job, most=2))
    seen += hive.events(job, last=seen[-1][0])
    ids = [int(id) for id, _, _ in seen]
    assert ids == sorted(set(ids)) and len(ids) > 2, ids
    assert [id for id, _, _ in hive.events(job)] == [id for id, _, _ in seen], "the same story from the beginning"
    assert seen[-1][1] == "end" and seen[-1][2]["data"]["state"] == "succeeded", seen[-1]
    answer, _ = hive.open("followJob", job, header=seen[-1][0])
    assert answer.status == 204, answer.status

    spawned = hive.call("getJob", job, status=200)["result"]
    worker = hive.call("getWorker", spawned["worker_id"], status=200)
    assert worker["state"] == "ready" and worker["pid"] == spawned["pid"], worker
    lease = hive.call("getLease", worker["port"], status=200)
    assert lease["lease_id"] == spawned["lease_id"], lease
    with urllib.request.urlopen(worker["url"] + "/health", timeout=30) as answer:
        assert answer.status == 200

    # Stop it, and see it gone.
    job = hive.call("submitJob", status=202, body=hive.body("submitJob", "worker_stop", worker["worker_id"]))["job_id"]
    ended = hive.call("getJob", job, query="30s", status=200)
    assert ended["state"] == "succeeded", ended
    worker = hive.call("getWorker", spawned["worker_id"], status=200)
    assert worker["state"] == "stopped" and worker["pid"] is None and worker["lease_id"] is None, worker
    gone = hive.call("getLease", worker["port"], status=404)
    assert gone["code"] == "not_found", gone
    try:
        urllib.request.urlopen(worker["url"] + "/health", timeout=5)
    except urllib.error.URLError:
        pass
    else:
        raise SystemExit("it still answers")

    # What is wrong is said, and what fails is told apart from it.
    wrong = hive.call("submitJob", status=400, body=hive.body("submitJob", "worker_spawn", "no-such-type"))
    assert wrong["code"] == "unknown_worker_type", wrong
    job = hive.call("submitJob", status=202, body=hive.body("submitJob", "worker_process_get", 1))["job_id"]
    failed = hive.call("getJob", job, status=200)
    assert failed["state"] == "failed" and failed["error"]["code"] == "not_found", failed
    print("driven")


main(*sys.argv[1:])
