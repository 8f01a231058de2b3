"""What the chart renders, by Helm's own library; and as plain manifests, without Helm."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "deploy/helm/onthedot"
PLAIN = ROOT / "deploy/kubernetes"
# The plain manifests, by the value set they are rendered from.
PLAIN_FILES = {"onthedot.yaml": "external", "onthedot-1.20.yaml": "kubernetes-1.20"}

Object = dict[str, Any]


class RefusedError(Exception):
    """Helm's words for why it does not install these values."""


@dataclass(frozen=True)
class Release:
    """The objects of a release: those of its hooks, by their weights, and the others."""

    hooks: list[Object]
    others: list[Object]
    notes: str

    @property
    def objects(self) -> list[Object]:
        """All of them."""
        return [*self.hooks, *self.others]

    def of_kind(self, *kinds: str) -> list[Object]:
        """Those of a kind."""
        return [each for each in self.objects if each["kind"] in kinds]


def value_set(name: str) -> Object:
    """The values of `ci/<name>-values.yaml`."""
    values: Object = yaml.safe_load((CHART / f"ci/{name}-values.yaml").read_text())
    return values


class Renderer:
    """Renders the chart, by the process of `stub_cluster`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Self]:
        """Start the process, and end it in the end."""
        with tempfile.TemporaryDirectory() as home:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.deploy.stub_cluster"],
                # Read by Helm when its process starts: later is too late.
                env={"HELM_DRIVER": "memory", "HOME": home},
                cwd=ROOT,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            with process:
                yield cls(process)

    def render(self, values: Object, *, upgrade: bool = False) -> Release:
        """The release of these values; `RefusedError` where Helm refuses them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"chart": str(CHART), "values": values, "upgrade": upgrade}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        release = json.loads(self._process.stdout.readline())
        if "refused" in release:
            raise RefusedError(release["refused"])
        hooks = [yaml.safe_load(each["manifest"]) for each in release.get("hooks", [])]
        return Release(
            sorted(hooks, key=_weight),
            [each for each in yaml.safe_load_all(release["manifest"]) if each],
            release["info"]["notes"],
        )


def _weight(hook: Object) -> int:
    return int(hook["metadata"]["annotations"].get("helm.sh/hook-weight", 0))


def plain(release: Release, value_set_name: str) -> str:
    """The objects for `kubectl apply`: without what only Helm reads."""
    objects = deepcopy(release.objects)
    for each in objects:
        _forget_helm(each["metadata"])
        if template := each["spec"].get("template") if "spec" in each else None:
            _forget_helm(template["metadata"])
    head = (
        f"# Rendered from deploy/helm/onthedot, ci/{value_set_name}-values.yaml, by `make docs`:\n"
        "# change the chart instead, or patch this in an overlay.\n"
    )
    return head + yaml.dump_all(objects, Dumper=_Readable, sort_keys=False, width=110)


class _Readable(yaml.SafeDumper):
    """Writes a script as lines, not as one quoted word."""


_Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def _forget_helm(metadata: Object) -> None:
    for name in ("labels", "annotations"):
        given = metadata.pop(name, {})
        kept = {
            key: value
            for key, value in given.items()
            if key != "app.kubernetes.io/managed-by" and not key.startswith("helm.sh/")
        }
        if kept:
            metadata[name] = kept
