"""After all other checks: what the ledger has of them, and where keys were seen."""
import time

from registry import registry

CHECKS, check, gateway_only = registry()


def settled_rows(application, seconds=20):
    """Its rows, as soon as there are as many as it expects: the ledger is written after the answer."""
    deadline = time.monotonic() + seconds
    while True:
        rows = application.rows()
        if len(rows) >= application.expected.total() or time.monotonic() > deadline:
            return rows
        time.sleep(0.05)


@gateway_only
def the_ledger_has_each_call_with_its_tokens_and_cost(caller):
    wrong = []
    for application in caller.run.applications:
        rows = application.expected.copy()
        rows.subtract(settled_rows(application))
        wrong += [f"{application.name}: {'missing' if times > 0 else 'unexpected'}: {row}"
                  for row, times in rows.items() if times]
    assert not wrong, "\n" + "\n".join(wrong)


@gateway_only
def no_key_went_where_it_does_not_belong(caller):
    recorded = caller.stub.recorded()
    assert len(recorded["calls"]) > 50, "the stub providers missed what they are for"
    assert not recorded["problems"], recorded["problems"]
    log = caller.gateway.process.output()
    keys = [application.issued["key"] for application in caller.run.applications]
    keys += [caller.stub.key(provider) for provider in ("openai", "anthropic", "gemini", "fireworks", "bedrock")]
    assert not [key for key in keys if key in log], "a key is in the gateway's log"
