"""Another bundle put in the place of the one that decides: the undo of a deployment, by a deployment."""

from __future__ import annotations

from underhood.build.bundle import Bundle, load
from underhood.ground.errors import NotFoundError, ProjectError, nearest
from underhood.record.objects import names as object_names
from underhood.repair.workbench import Workbench, before, deployed


def deploy_bundle(bench: Workbench, name: str = "", by: str = "") -> Bundle:
    """Deploys a bundle of the record: the one named (or the beginning of its name), else the one deployed before.

    What was deployed until now stays in the record and can be brought back in the same way.
    Raises NotFoundError if there is none of that name, ProjectError if the system no longer gives what it needs.
    """
    wanted = _named(bench, name) if name else before(bench, deployed(bench).name)
    if not wanted:
        raise NotFoundError("no bundle was deployed before this one", bench.system.name, "underhood build")
    bundle = load(bench.record, wanted)
    missing = sorted(set(bundle.inputs) - set(bench.plan.inputs))
    if missing:
        hint = "underhood build makes one that fits the project as it is"
        raise ProjectError(f"needs {', '.join(missing)}, which the system no longer has", wanted, hint)
    bench.database.deploy(bench.system.name, wanted, bench.now, by or "underhood deploy")
    return bundle


def _named(bench: Workbench, name: str) -> str:
    known = object_names(bench.record, "bundle")
    found = [n for n in known if n == name] or [n for n in known if n.startswith((name, f"bundle-{name}"))]
    if len(found) != 1:
        what = f"{len(found)} bundles begin so" if found else "there is no such bundle"
        raise NotFoundError(what, name, nearest(name, known))
    return found[0]
