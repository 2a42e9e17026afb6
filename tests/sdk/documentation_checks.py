"""The examples of `docs/one-api.md`, as they stand there. They have a key that the ledger is not asked about."""
import ast
import pathlib
import re
import subprocess

import script
from registry import registry

CHECKS, check, gateway_only = registry()
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "one-api.md"
ANSWER = "".join(script.ANSWER)


def example(language):
    """The only one in this language."""
    [text] = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return text


@gateway_only
def commands_of_the_page(caller):
    text, key = example("sh"), caller.gateway.issue_key("commands of the page")["key"]
    models = re.search(r"^for model in (.*); do$", text, re.MULTILINE)[1].split()
    assert {"openai", "anthropic", "gemini", "custom"} == {model.partition("/")[0] for model in models}, models
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TOLLGATE": caller.gateway.url, "KEY": key}
    done = subprocess.run(["bash", "-eu", "-c", text], env=environment, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(ANSWER) == len(models), done.stdout


@gateway_only
def python_of_the_page(caller):
    key = caller.gateway.issue_key("Python of the page")["key"]
    values, names = [], {"KEY": key}
    for statement in ast.parse(example("python").replace("https://GATEWAY", caller.gateway.url)).body:
        if isinstance(statement, ast.Expr):
            values.append(eval(compile(ast.Expression(statement.value), str(PAGE), "eval"), names))
        else:
            exec(compile(ast.Module([statement], []), str(PAGE), "exec"), names)
    response, message = values
    assert (response.output_text, message.content[0].text) == (ANSWER, ANSWER), values
