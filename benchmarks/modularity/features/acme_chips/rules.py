"""How a trainer is laid over Acme's chips."""

from axlearn_core.hardware import MeshRule

NODE = MeshRule.Config(mesh_shape={"fsdp": -1})
POD = MeshRule.Config(mesh_shape={"data": -1, "fsdp": 8})
