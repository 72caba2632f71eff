"""The pages do what they say: every block of README.md and docs/ is carried out as `page_run` says, in an empty folder, in the order of the page."""

from __future__ import annotations

from pathlib import Path

import firmplan
import pytest
from firmplan.testing import ScriptedModel
from page_run import FENCE, PageRun, faults_of_command

ROOT = Path(firmplan.__file__).parent
OTHER_TESTS = {
    "docs/API.md": "scripts/docs.py makes it from signatures and docstrings",
    "docs/CODES.md": "scripts/docs.py makes it from the table of codes, whose examples tests/plans checks",
    "docs/COMMANDS.md": "scripts/docs.py makes it from the help of the commands",
    "docs/STATES.md": "scripts/docs.py makes it from the table of moves",
    "docs/RECIPES.md": "test_recipes.py puts its blocks into a copy of the package",
}
"""Pages whose blocks are made from the code, or carried out by a test of their own."""

NOT_RUN = {
    ("README.md", "make demo"): "installs packages",
    (
        "docs/ARCHITECTURE.md",
        " words ──► planner ──► plan ──► check ──► program ──► machine ◄──► driver ──► tools, models",
    ): "a picture",
    (
        "docs/FLEET.md",
        "pip install 'firmplan[server,temporal]'",
    ): "needs a Temporal server and PostgreSQL",
    (
        "docs/FLEET.md",
        'firmplan worker --queue gpu --slots 2 --tools tools.py   # makes up to 2 calls at a time of the tools with @tool(queue="gpu"); drives no runs',
    ): "needs a Temporal server and PostgreSQL",
    ("docs/GUARDS.md", "MODEL       GUARD          HOLDS  HELD  REFUSED  UNASKED"): "figures of a real model",
    (
        "docs/GUARDS.md",
        "MODEL       SWAP   VARIANTS       TASKS  DIFFER     NOISE     P        HIGHER  P",
    ): "figures of a real model",
    ("docs/MCP.md", "$ firmplan tools login https://mcp.example.com/mcp"): "needs another host",
    (
        "docs/MODELS.md",
        "firmplan doctor --probe --model qwen --base-url http://127.0.0.1:8080/v1",
    ): "asks a model",
    (
        "docs/MODELS.md",
        'firmplan traffic calls.jsonl run "task in words" --tools tools.py             # writes what models are asked and answer',
    ): "asks a model",
    ("docs/OPERATING.md", "# prometheus.yml"): "a setting of Prometheus",
    (
        "docs/OPERATING.md",
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 firmplan serve --tools tools.py",
    ): "serves until it is stopped",
    (
        "docs/PLANNER.md",
        "firmplan eval examples/evals/starter.yaml --model gpt-5-mini --model gpt-5 --samples 3 --run --judge gpt-5",
    ): "asks a model",
    ("docs/PLANNER.md", "$ cd examples/evals/recorded"): "test_planning_page.py measures the same set",
    (
        "docs/PLANNER.md",
        "firmplan export-training planner.jsonl --kind planner --runs all --judged verdicts.jsonl --tools tools.py",
    ): "needs a store with runs that a model planned",
    (
        "docs/PLANNING.md",
        "firmplan eval examples/evals/starter.yaml --model MODEL --samples 3 --run --replan 1 --against react",
    ): "asks a model",
    ("docs/REUSE.md", "$ firmplan shadow run_5d0c --model next-model"): "asks a model",
    ("docs/TOOLS.md", "@resource"): "needs a PostgreSQL server",
    ("docs/tutorial/README.md", "mkdir tutorial && cd tutorial"): "installs packages",
}
"""Page and first line of every block that is read and not run, and why. The comment above the block says the same."""

README_PLAN = {
    "firmplan": 1,
    "steps": [
        {"id": "tea", "tool": "price", "args": {"item": "tea"}},
        {"id": "milk", "tool": "price", "args": {"item": "milk"}},
        {"id": "more", "set": "${round(tea - milk, 2)}"},
    ],
    "output": "${more}",
}
"""What the model of the README's second task writes."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


PAGES = [
    page
    for page in [
        "README.md",
        *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")),
    ]
    if page not in OTHER_TESTS and FENCE.search(text_of(page))
]


@pytest.mark.timeout(600)  # a dozen commands; the tests of a loaded machine get some patience
@pytest.mark.parametrize("page", PAGES)
def test_the_page_works_as_it_says(page, tmp_path):
    """Its files are written, its programs and commands run, its servers serve, and each prints what the page shows."""
    with ScriptedModel([README_PLAN]) as model:
        env = {"FIRMPLAN_BASE_URL": model.base_url, "OPENAI_API_KEY": "any"} if page == "README.md" else {}
        with PageRun(tmp_path, env) as reader:
            reader.carry_out(text_of(page))


def test_every_block_that_is_not_run_is_listed_with_its_reason():
    """The table above and the comments on the pages say the same."""
    found = {
        (page, block["text"].split("\n", 1)[0]): block["why"]
        for page in PAGES
        for block in FENCE.finditer(text_of(page))
        if block["why"]
    }
    assert found == NOT_RUN


def test_every_page_with_a_test_of_its_own_is_there():
    assert all(FENCE.search(text_of(page)) for page in OTHER_TESTS)


def test_a_page_that_says_something_else_fails(tmp_path):
    """The reader notices another output, a failed command, a plan with a fault, and a block of which it does not know what to do."""
    wrong = {
        "```python\nprint(1)\n```\n```text\n2\n```\n": "the program above",
        "```sh\nfirmplan show nothing\n```\n": "exit code",
        "```yaml\nsteps: [{id: sum, set: 1}]\n```\n": "bad-id",
        "```yaml\na: 1\n```\n": "expected a block that can be carried out",
        "<!-- not run: serves -->\n```sh\nfirmplan srve\n```\n": "no command 'srve'",
        "<!-- not run: a shape -->\n```json\n{\n```\n": "Expecting",
    }
    for page, told in wrong.items():
        with PageRun(tmp_path) as reader, pytest.raises(AssertionError, match=told):
            reader.carry_out(page)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("firmplan serve --tools tools.py --port 8000", ""),
        ("FIRMPLAN_LOG=json firmplan run plan.yaml 2> run.log  # a remark", ""),
        ("firmplan traffic --replay calls.jsonl eval desk.yaml --replan 1", ""),
        ("firmplan srve", "there is no command 'srve'"),
        ("firmplan keys revoke", "expected ['name']"),
        ("firmplan run plan.yaml --inptu a=1", "--inptu"),
        ("firmplan approve RUN mail another", "another"),
        ("firmplan traffic --replay calls.jsonl eval desk.yaml --replann 1", "--replann"),
    ],
)
def test_commands_that_are_not_run_are_read(line, fault):
    """Commands, options and the number of arguments have to be those of the command line."""
    assert fault in faults_of_command(line)
    assert bool(fault) == bool(faults_of_command(line))
