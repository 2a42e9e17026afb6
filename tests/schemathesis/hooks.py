"""What schemathesis can't know of the server: which key may call what, and which ids exist."""
import itertools
import json
import os
import pathlib
import urllib.request

import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation

SEED = json.loads(pathlib.Path(os.environ["SEED"]).read_text())
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


def make(path, body):
    request = urllib.request.Request(
        f"{SEED['url']}/api/v1/{path}", method="POST", data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {SEED['keys']['admin']}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["id"]


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
        case "policy_id":
            return make("gateway-policies", {
                "name": "Spare", "policy_type": "spend_cap", "config": {"window": "daily", "limit_usd": 9},
                "subject_matchers": [{"key": "spare", "value": str(number)}]})
    return None


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts ids that exist into every second path that is to be valid."""
    path = case.path_parameters
    info = case.meta.components.get(ParameterLocation.PATH) if case.meta else None
    if not path or info is None or info.mode is not GenerationMode.POSITIVE or next(COUNT) % 2:
        return
    *parents, last = [name for name in case.operation.path.replace("}", "{").split("{")[1::2]]
    for name in parents:
        path[name] = SEED["ids"].get(name, path[name])
    ends = case.method in ("DELETE", "PATCH") or case.operation.path.endswith("/rotate") or last == "api_key_id"
    # The rest of the run depends on the organization and, with `/workspaces/{workspace_id}/...`, on the workspace.
    made = spare(last, case.operation.path) if ends and case.operation.path.endswith(f"{{{last}}}") else None
    path[last] = made or SEED["ids"].get(last, path[last])
