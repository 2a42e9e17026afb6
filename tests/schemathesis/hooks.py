"""What schemathesis can't know of the server: which key may call what, and which ids exist."""
import itertools
import json
import os
import pathlib
import re
import urllib.error
import urllib.request

import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation

SEED = json.loads(pathlib.Path(os.environ["SEED"]).read_text())
SPARE_POLICIES = []
COUNT = itertools.count()


def key_of(operation):
    """A key whose role has the operation's permission."""
    permission = operation.definition.raw["x-permission"]
    if permission == "gateway:invoke":
        return SEED["keys"]["caller"]
    if permission in ("organizations:write", "operations:read"):
        return SEED["keys"]["platform"]
    return SEED["keys"]["admin"]


@schemathesis.auth(refresh_interval=None)
class Keys:
    def get(self, case, context):
        return key_of(case.operation)

    def set(self, case, key, context):
        case.headers["Authorization"] = f"Bearer {key}"


def call(method, path, body=None):
    request = urllib.request.Request(
        f"{SEED['url']}/api/v1/{path}", method=method, data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {SEED['keys']['admin']}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or b"null")


def make(path, body):
    return call("POST", path, body)["id"]


def remove(path):
    try:
        call("DELETE", path)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise


def spare(name, path):
    """The id of something made for one call, which may end or change it."""
    number = next(COUNT)
    workspace = f"workspaces/{SEED['ids']['workspace_id']}"
    match name:
        case "workspace_id":
            return make("workspaces", {"name": "Spare", "handle": f"spare-{number}"})
        case "user_id":
            return make("users", {"name": "Spare", "email": f"spare{number}@example.com"})
        case "api_key_id" if "workspace_id" in path:
            return make(f"{workspace}/api-keys", {"name": "Spare", "role": "GATEWAY_CALLER"})
        case "api_key_id":
            return make("api-keys", {"name": "Spare", "role": "ORGANIZATION_VIEWER"})
        case "configuration_id":
            return make(f"{workspace}/model-configurations", {
                "name": f"spare {number}", "base_url": "http://127.0.0.1:9/v1", "model": "spare"})
        case "model_price_id":
            return make("model-prices", {
                "provider": "openai", "model": f"spare-{number}", "price": {"input": 1, "output": 1}})
        case "name":
            return f"SPARE_{number}"
        case "policy_id":
            # An organization has room for so many policies only, and the run makes others.
            while len(SPARE_POLICIES) >= 20:
                remove(f"gateway-policies/{SPARE_POLICIES.pop(0)}")
            SPARE_POLICIES.append(make("gateway-policies", {
                "name": "Spare", "policy_type": "spend_cap", "config": {"window": "daily", "limit_usd": 9},
                "subject_matchers": [{"key": "spare", "value": str(number)}]}))
            return SPARE_POLICIES[-1]
    return None


@schemathesis.hook
def before_call(context, case, kwargs):
    give_handle(case)
    keep_fields_in_one_case(case)
    use_ids_that_exist(case)


def is_valid(case, location):
    """Whether this part of the request is meant to be valid."""
    info = case.meta.components.get(location) if case.meta else None
    return info is not None and info.mode is GenerationMode.POSITIVE


def give_handle(case):
    """A workspace whose name has no letter or digit of ASCII needs a handle. JSON Schema could say it with `anyOf`,
    of which generators of clients make two types."""
    if case.operation.definition.raw["operationId"] == "create_workspace" and is_valid_object(case):
        if not case.body.get("handle") and not re.search("[A-Za-z0-9]", case.body.get("name", "")):
            case.body["handle"] = f"made-{next(COUNT)}"


def keep_fields_in_one_case(case):
    """The data plane refuses a field that differs only in letter case from one that it reads. The schema of a body
    names few of the fields that it takes."""
    if key_of(case.operation) == SEED["keys"]["caller"] and is_valid_object(case):
        for name in [name for name in case.body if name != name.casefold()]:
            del case.body[name]


def is_valid_object(case):
    return isinstance(case.body, dict) and is_valid(case, ParameterLocation.BODY)


def use_ids_that_exist(case):
    """Puts ids that exist into paths that are to be valid: something made for the call where the call may end or
    change it, since the rest of the run depends on what is there; elsewhere into every second path."""
    path = case.path_parameters
    if not path or not is_valid(case, ParameterLocation.PATH):
        return
    changes = case.method in ("DELETE", "PATCH") or case.operation.path.endswith("/rotate")
    if not changes and next(COUNT) % 2:
        return
    *parents, last = case.operation.path.replace("}", "{").split("{")[1::2]
    for name in parents:
        path[name] = SEED["ids"].get(name, path[name])
    path[last] = (changes and spare(last, case.operation.path)) or SEED["ids"].get(last, path[last])
