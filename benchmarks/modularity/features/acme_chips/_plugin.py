"""What this plugin provides."""

from axlearn_core.plugins import HardwareRecord, MeshRuleRecord, hookimpl


@hookimpl
def axlearn_hardware() -> list[HardwareRecord]:
    target = "acme_chips.backend:Acme"
    return [HardwareRecord("acme", target, "Acme's chips, which do not exist.", platform="acme")]


@hookimpl
def axlearn_mesh_rules() -> list[MeshRuleRecord]:
    rules = "acme_chips.rules"
    node, pod = r"acme-a1-[1-8]", r"acme-a1-\d+"
    return [
        MeshRuleRecord("acme-node", f"{rules}:NODE", "Up to 8 chips of one node.", pattern=node),
        MeshRuleRecord("acme-pod", f"{rules}:POD", "Nodes of 8.", pattern=pod),
    ]
